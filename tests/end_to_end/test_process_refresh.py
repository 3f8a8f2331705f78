from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.comfyui import prepare_base
from tests.support.handler import handler_environment, recorded_posts, running_endpoint
from tests.support.platform import RunningPlatform, running_platform
from tests.support.workflows import node, saved_image

COUNTING_NODES = '''
import os

calls = 0


class TestCountCalls:
    """Counts its calls in the process, and remembers in a global as careless nodes do."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")

    def run(self):
        global calls
        calls += 1
        return {"ui": {"text": [str(calls), str(os.getpid())]}}


NODE_CLASS_MAPPINGS = {"TestCountCalls": TestCountCalls}
'''
COUNT = {"1": node("TestCountCalls")}


@pytest.fixture
def counting_nodes(tmp_path: Path) -> Path:
    path = tmp_path / "counting_nodes.py"
    path.write_text(COUNTING_NODES)
    return path


@pytest.fixture
def refreshing(tmp_path: Path, counting_nodes: Path) -> Iterator[RunningPlatform]:
    """A platform that keeps one worker running, which refreshes itself."""
    base = tmp_path / "base"
    prepare_base(base, (counting_nodes,))
    environment = handler_environment(base, REFRESH_WORKER="true")
    with running_platform([sys.executable, "handler.py"], env=environment) as platform:
        yield platform


def test_every_job_gets_a_new_worker_with_a_new_comfyui(refreshing: RunningPlatform) -> None:
    jobs = [refreshing.wait(refreshing.run({"workflow": COUNT}), 60) for _ in range(3)]
    assert [job["status"] for job in jobs] == ["COMPLETED"] * 3, refreshing.log()
    texts = [[item["text"] for item in job["output"]["texts"]] for job in jobs]
    assert [calls for calls, _ in texts] == ["1", "1", "1"]
    assert len({pid for _, pid in texts}) == 3
    assert len({job["workerId"] for job in jobs}) == 3


def test_without_it_the_worker_and_its_comfyui_stay(tmp_path: Path, counting_nodes: Path) -> None:
    with running_endpoint(tmp_path / "base", extra_nodes=(counting_nodes,)) as (platform, _):
        jobs = [platform.run_sync({"workflow": COUNT}) for _ in range(3)]
        assert [job["output"]["texts"][0]["text"] for job in jobs] == ["1", "2", "3"]


@pytest.mark.parametrize("ends", ["completed", "failed", "cancelled"])
def test_the_worker_ends_by_itself_after_one_job_however_that_ends(
    ends: str, tmp_path: Path
) -> None:
    with running_endpoint(tmp_path / "base", REFRESH_WORKER="true") as (platform, handler):
        posts = recorded_posts(platform)
        workflow = {
            "completed": saved_image(),
            "failed": {"1": node("TestFail")},
            "cancelled": {"1": node("TestSleepOutput", seconds=60.0)},
        }[ends]
        job_id = platform.run({"workflow": workflow})
        next_id = platform.run({"workflow": saved_image()})
        if ends == "cancelled":
            handler.wait_for_event("prompt_queued")
            platform.post(f"/cancel/{job_id}")
        assert handler.wait(15) == 0
        assert handler.comfyui_pids() == []
        assert platform.status(job_id)["status"] == ends.upper()
        assert platform.status(next_id)["status"] == "IN_QUEUE"
        stop_pods = [post.body.get("stopPod") for post in posts if not post.is_progress]
        assert stop_pods == ([] if ends == "cancelled" else [True])
