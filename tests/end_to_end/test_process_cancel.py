from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.comfyui import FAULT_NODES
from tests.support.handler import (
    Handler,
    Post,
    comfyui_folders,
    recorded_posts,
    running_endpoint,
)
from tests.support.platform import RunningPlatform
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, serving_s3
from tests.support.tcp_proxy import Faults, proxying
from tests.support.waiting import wait_until
from tests.support.worker import files_in
from tests.support.workflows import color_of, node, saved_image

Endpoint = tuple[RunningPlatform, Handler]

SLEEP = {"1": node("TestSleepOutput", seconds=60.0)}
WITHIN_S = 8.0
"""Within 2 s on a machine of its own."""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """A worker whose process is the test's."""
    with running_endpoint(tmp_path_factory.mktemp("base")) as endpoint:
        yield endpoint


def queue(handler: Handler) -> tuple[list[str], list[str]]:
    """The ids of the prompts that run and that wait in ComfyUI."""
    content = requests.get(f"{handler.comfyui_url()}/queue", timeout=5).json()
    running, pending = content["queue_running"], content["queue_pending"]
    return [item[1] for item in running], [item[1] for item in pending]


def cancel_and_wait(platform: RunningPlatform, job_id: str, done: Callable[[], bool]) -> None:
    """Cancel a job; what follows from it must be there in time."""
    assert platform.post(f"/cancel/{job_id}").json()["status"] == "CANCELLED"
    wait_until(done, WITHIN_S, platform.log)


def the_next_job_is_clean(platform: RunningPlatform, handler: Handler) -> None:
    job = platform.run_sync({"workflow": saved_image(0x00FF00)})
    assert job["status"] == "COMPLETED", handler.log()
    assert color_of(job["output"]["images"][0]) == (0, 255, 0)
    assert queue(handler) == ([], [])
    assert requests.get(f"{handler.comfyui_url()}/history", timeout=5).json() == {}
    folders = comfyui_folders(handler.base)
    assert files_in(input=folders.input, output=folders.output, temp=folders.temp) == []


def results_of(posts: list[Post], job_id: str) -> list[dict[str, Any]]:
    return [post.body for post in posts if post.job_id == job_id and not post.is_progress]


def test_a_running_job_is_interrupted_and_posts_nothing(endpoint: Endpoint) -> None:
    platform, handler = endpoint
    posts = recorded_posts(platform)
    job_id = platform.run({"workflow": SLEEP})
    handler.wait_until(lambda: len(queue(handler)[0]) == 1)
    cancel_and_wait(platform, job_id, lambda: queue(handler) == ([], []))
    sent = len(posts)
    the_next_job_is_clean(platform, handler)
    assert results_of(posts, job_id) == []
    assert [post for post in posts[sent:] if post.job_id == job_id] == []  # no late progress either
    assert platform.status(job_id)["status"] == "CANCELLED"


def test_a_job_that_waits_in_comfyui_is_taken_from_its_queue(endpoint: Endpoint) -> None:
    platform, handler = endpoint
    posts = recorded_posts(platform)
    url = handler.comfyui_url()
    body = {"prompt": SLEEP, "client_id": "a person at ComfyUI's page"}
    other_id = requests.post(f"{url}/prompt", json=body, timeout=5).json()["prompt_id"]
    try:
        job_id = platform.run({"workflow": saved_image()})
        handler.wait_until(lambda: len(queue(handler)[1]) == 1)
        cancel_and_wait(platform, job_id, lambda: queue(handler) == ([other_id], []))
        assert results_of(posts, job_id) == []
    finally:
        requests.post(f"{url}/interrupt", json={}, timeout=5)
    handler.wait_until(lambda: queue(handler) == ([], []))
    requests.post(f"{url}/history", json={"clear": True}, timeout=5)
    the_next_job_is_clean(platform, handler)


def test_a_job_that_is_being_delivered_is_given_up(tmp_path: Path) -> None:
    with serving_s3(tmp_path) as s3, proxying(s3.address, Faults(stall_after=2000)) as proxy:
        bucket = s3.make_bucket("pictures")
        variables = {
            "BUCKET_ENDPOINT_URL": proxy.url,
            "BUCKET_NAME": "pictures",
            "BUCKET_ACCESS_KEY_ID": ACCESS_KEY,
            "BUCKET_SECRET_ACCESS_KEY": SECRET_KEY,
        }
        with running_endpoint(tmp_path / "base", extra_nodes=(FAULT_NODES,), **variables) as (
            platform,
            handler,
        ):
            posts = recorded_posts(platform)
            job_id = platform.run({"workflow": saved_image(size=2048)})
            handler.wait_until(lambda: proxy.faults.connections > 0)
            cancel_and_wait(platform, job_id, lambda: "job_cancelled" in handler.events())
            proxy.faults.stall_after = None
            job = platform.run_sync({"workflow": saved_image()})
            assert job["status"] == "COMPLETED"
            assert job["output"]["images"][0]["type"] == "s3_url"
            assert results_of(posts, job_id) == []
            stored = [path.parent.name for path in bucket.rglob("*") if path.is_file()]
            assert stored == [job["id"]]


def test_a_job_whose_inputs_are_being_read_is_given_up(tmp_path: Path) -> None:
    with (
        serving_s3(tmp_path) as s3,
        proxying(s3.address, Faults(stall_after=1)) as proxy,
        running_endpoint(tmp_path / "base", ALLOW_PRIVATE_INPUT_URLS="true") as endpoint,
    ):
        platform, handler = endpoint
        posts = recorded_posts(platform)
        image = {"name": "a.png", "image": f"{proxy.url}/never.png"}
        job_id = platform.run({"workflow": saved_image(), "images": [image]})
        handler.wait_until(lambda: proxy.faults.connections > 0)
        time.sleep(0.6)  # a platform sends no stop signal before that
        cancel_and_wait(platform, job_id, lambda: "job_cancelled" in handler.events())
        the_next_job_is_clean(platform, handler)
        assert results_of(posts, job_id) == []


def test_of_two_jobs_in_hand_only_the_cancelled_one_is_stopped(tmp_path: Path) -> None:
    with running_endpoint(tmp_path, WORKER_CONCURRENCY="2") as (platform, handler):
        posts = recorded_posts(platform)
        first = platform.run({"workflow": SLEEP})
        handler.wait_until(lambda: len(queue(handler)[0]) == 1)
        second = platform.run({"workflow": saved_image()})
        platform.wait_for(second, lambda job: job["status"] == "IN_PROGRESS")
        cancel_and_wait(platform, first, lambda: "job_cancelled" in handler.events())
        assert platform.wait(second)["status"] == "COMPLETED"
        assert results_of(posts, first) == []
