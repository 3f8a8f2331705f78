from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import requests

from tests.support.comfyui import FAULT_NODES
from tests.support.handler import Handler, recorded_posts, running_endpoint
from tests.support.platform import RunningPlatform
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, S3Server, serving_s3
from tests.support.workflows import color_of, node, saved_image

Endpoint = tuple[RunningPlatform, Handler]

BIG_NODES = FAULT_NODES.with_name("big_nodes.py")
NODES = (FAULT_NODES, BIG_NODES)
SLEEP = {"1": node("TestSleepOutput", seconds=1.5)}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """A worker without a bucket."""
    with running_endpoint(tmp_path_factory.mktemp("base"), extra_nodes=NODES) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 service with two buckets."""
    with serving_s3(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("pictures")
        server.make_bucket("callers-own")
        yield server


@pytest.fixture(scope="module")
def endpoint_with_bucket(
    tmp_path_factory: pytest.TempPathFactory, s3: S3Server
) -> Iterator[Endpoint]:
    """A worker that uploads to `pictures`."""
    base = tmp_path_factory.mktemp("base")
    variables = {**bucket_variables(s3.url), "ALLOW_PRIVATE_INPUT_URLS": "true"}
    with running_endpoint(base, extra_nodes=NODES, **variables) as endpoint:
        yield endpoint


def bucket_variables(url: str) -> dict[str, str]:
    return {
        "BUCKET_ENDPOINT_URL": url,
        "BUCKET_NAME": "pictures",
        "BUCKET_ACCESS_KEY_ID": ACCESS_KEY,
        "BUCKET_SECRET_ACCESS_KEY": SECRET_KEY,
    }


def big(size: int, count: int = 1) -> dict[str, Any]:
    return {"1": node("TestBigFile", size=size, count=count, filename_prefix="big")}


# --- the result's way to the platform


@pytest.mark.parametrize(
    ("status", "drop"), [(500, None), (503, None), (None, "before"), (None, "after")]
)
def test_a_result_arrives_though_the_platform_fails_a_few_times(
    status: int | None, drop: Literal["before", "after"] | None, endpoint: Endpoint
) -> None:
    platform, _ = endpoint
    platform.faults.clear()
    # The first of them may meet a progress update.
    fault = platform.faults.add("job-done", status=status, drop=drop, times=3)
    job = platform.run_sync({"workflow": saved_image(0x0000FF)})
    assert job["status"] == "COMPLETED"
    assert color_of(job["output"]["images"][0]) == (0, 0, 255)
    assert fault.hits >= 2
    assert "retries" not in job  # it is the result that arrived, not that of a second run
    platform.faults.clear()
    assert platform.run_sync({"workflow": saved_image()})["status"] == "COMPLETED"


def test_a_slow_platform_gets_progress_before_the_result_and_never_after(
    endpoint: Endpoint,
) -> None:
    platform, _ = endpoint
    platform.faults.clear()
    posts = recorded_posts(platform)
    platform.faults.add("job-done", delay_s=3.0)
    job_id = platform.run({"workflow": SLEEP})
    assert platform.wait(job_id)["status"] == "COMPLETED"
    platform.run_sync({"workflow": saved_image()})  # time in which a late one would come
    kinds = [post.is_progress for post in posts if post.job_id == job_id]
    assert kinds[-1] is False
    assert kinds.count(False) == 1
    assert len(kinds) > 1
    assert platform.status(job_id)["status"] == "COMPLETED"


def test_progress_that_the_platform_refuses_does_no_harm(endpoint: Endpoint) -> None:
    platform, handler = endpoint
    platform.faults.clear()
    platform.faults.add("job-done", status=400)
    job_id = platform.run({"workflow": SLEEP})
    job = platform.wait(job_id)
    assert job["status"] == "COMPLETED"
    warnings = [line for line in handler.lines() if line["level"] == "WARNING"]
    assert any("progress could not be sent" in line["message"] for line in warnings)


def test_progress_tells_node_and_percent_at_most_once_a_second(endpoint: Endpoint) -> None:
    platform, _ = endpoint
    platform.faults.clear()
    posts = recorded_posts(platform)
    job_id = platform.run({"workflow": {"1": node("TestSleepOutput", seconds=3.0)}})
    assert platform.wait(job_id)["status"] == "COMPLETED"
    updates = [post.body["output"] for post in posts if post.job_id == job_id and post.is_progress]
    assert 2 <= len(updates) <= 4
    assert {update["node"] for update in updates} == {"TestSleepOutput"}
    percents = [update["percent"] for update in updates]
    assert percents == sorted(percents)
    assert percents[-1] > 30


# --- the platform's limits, which are 20 MB for /runsync and 10 MB for /run

FITS = {"/runsync": 14_998_000, "/run": 7_498_000}
TOO_LARGE = {"/runsync": 14_999_000, "/run": 7_499_000}


@pytest.mark.parametrize("path", ["/runsync", "/run"])
def test_a_result_just_within_the_limit_is_taken(path: str, endpoint: Endpoint) -> None:
    platform, _ = endpoint
    job = finished(platform, path, {"workflow": big(FITS[path])})
    assert job["status"] == "COMPLETED"
    (file,) = job["output"]["files"]
    assert len(base64.b64decode(file["data"])) == FITS[path]


@pytest.mark.parametrize("path", ["/runsync", "/run"])
def test_a_result_above_the_limit_is_a_clear_error_with_sizes_and_ways_out(
    path: str, endpoint: Endpoint
) -> None:
    platform, _ = endpoint
    job = finished(platform, path, {"workflow": big(TOO_LARGE[path])})
    assert job["status"] == "FAILED"
    assert job["error"].startswith("RESULT_TOO_LARGE: ")
    for part in ("20.0 MB" if path == "/runsync" else "10.0 MB", "big_0.bin", "bucket"):
        assert part in job["error"]
    assert job["output"]["error_code"] == "RESULT_TOO_LARGE"


@pytest.mark.parametrize("path", ["/runsync", "/run"])
def test_a_result_above_the_limit_goes_to_the_bucket_though_base64_was_asked_for(
    path: str, endpoint_with_bucket: Endpoint
) -> None:
    platform, _ = endpoint_with_bucket
    request = {"workflow": big(TOO_LARGE[path]), "output": {"delivery": "base64"}}
    job = finished(platform, path, request)
    assert job["status"] == "COMPLETED"
    (file,) = job["output"]["files"]
    assert file["type"] == "s3_url"
    assert len(requests.get(file["data"], timeout=30).content) == TOO_LARGE[path]
    assert "went to the bucket" in job["output"]["errors"][0]


def test_what_fits_stays_inline_and_only_the_rest_goes_to_the_bucket(
    endpoint_with_bucket: Endpoint,
) -> None:
    platform, _ = endpoint_with_bucket
    request = {"workflow": big(4_000_000, count=5), "output": {"delivery": "base64"}}
    job = finished(platform, "/runsync", request)
    kinds = [file["type"] for file in job["output"]["files"]]
    assert sorted(kinds) == ["base64"] * 3 + ["s3_url"] * 2


def finished(platform: RunningPlatform, path: str, job_input: Any) -> dict[str, Any]:
    """Run a job by this path; the platform must not have refused its result."""
    posts = recorded_posts(platform)
    job: dict[str, Any] = platform.post(path, {"input": job_input}).json()
    job = platform.wait(job["id"])
    # A result that is refused never gets to be read whole.
    assert [post.job_id for post in posts if not post.is_progress] == [job["id"]]
    return job


# --- the bucket


def test_files_go_to_the_bucket_and_come_back_by_their_url(endpoint_with_bucket: Endpoint) -> None:
    platform, _ = endpoint_with_bucket
    job = platform.run_sync({"workflow": saved_image(0xFF0000)})
    assert job["status"] == "COMPLETED"
    (image,) = job["output"]["images"]
    assert image["type"] == "s3_url"
    response = requests.get(image["data"], timeout=10)
    assert response.headers["Content-Type"] == "image/png"
    assert color_of({"data": base64.b64encode(response.content)}) == (255, 0, 0)
    assert "errors" not in job["output"]


def test_a_job_can_bring_a_bucket_of_its_own(endpoint_with_bucket: Endpoint, s3: S3Server) -> None:
    platform, _ = endpoint_with_bucket
    config = {
        "endpointUrl": s3.url,
        "accessId": ACCESS_KEY,
        "accessSecret": SECRET_KEY,
        "bucketName": "callers-own",
    }
    job = platform.run_sync({"workflow": saved_image()}, s3Config=config)
    assert job["status"] == "COMPLETED"
    assert "/callers-own/" in job["output"]["images"][0]["data"]
    assert [p for p in (s3.folder / "callers-own").rglob("*.png") if job["id"] in p.parts]


def test_a_bucket_that_is_down_means_inline_results_with_a_warning(tmp_path: Path) -> None:
    with serving_s3(tmp_path) as s3:
        s3.make_bucket("pictures")
        variables = bucket_variables(s3.url)
        with running_endpoint(tmp_path / "base", extra_nodes=NODES, **variables) as (platform, _):
            s3.kill()
            job = platform.run_sync({"workflow": saved_image(0x00FF00)})
            assert job["status"] == "COMPLETED"
            (image,) = job["output"]["images"]
            assert image["type"] == "base64"
            assert color_of(image) == (0, 255, 0)
            (warning,) = job["output"]["errors"]
            assert "'pictures'" in warning
            assert "returned inline instead: result_00001_.png" in warning

            job = finished(platform, "/runsync", {"workflow": big(TOO_LARGE["/runsync"])})
            assert job["status"] == "FAILED"
            assert job["error"].startswith("DELIVERY_FAILED: ")
