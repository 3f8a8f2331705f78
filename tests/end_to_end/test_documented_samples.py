"""The JSON samples of the README and docs/api.md: requests that run, and results as they are."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from local_runpod.limits import Limits
from tests.end_to_end.conftest import StartPlatform
from tests.end_to_end.workflows import request
from tests.support.file_server import serving
from tests.support.platform import ROOT, RunningPlatform
from tests.support.receiver import receiving
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, serving_s3
from tests.support.workflows import node, png

API = "docs/api.md"
BLOCK = re.compile(r"^```json\n(.*?)^```", re.DOTALL | re.MULTILINE)
EXAMPLES = ROOT / "test_resources" / "workflows"


@pytest.fixture(scope="module")
def platform(start: StartPlatform) -> Iterator[RunningPlatform]:
    """A platform whose worker may use what a test serves on this machine."""
    with start(env={"ALLOW_PRIVATE_INPUT_URLS": "true"}, limits=Limits()) as running:
        yield running


def sample(document: str, *words: str) -> dict[str, Any]:
    """The one JSON sample of a document that has these words."""
    blocks = BLOCK.findall((ROOT / document).read_text())
    [block] = [block for block in blocks if all(word in block for word in words)]
    found: dict[str, Any] = json.loads(block)
    return found


def run(platform: RunningPlatform, body: dict[str, Any]) -> dict[str, Any]:
    """Send a request's body, and wait for the end of its job."""
    fields = {name: value for name, value in body.items() if name != "input"}
    return platform.run_sync(body["input"], **fields)


def shape(value: Any) -> Any:
    """The fields of a value, in their order, each with the kind of its value."""
    if isinstance(value, dict):
        return [(name, shape(item)) for name, item in value.items()]
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__


def test_the_readme_s_request_gives_the_result_that_it_shows(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    body = sample("README.md", '"photo.png"')
    (tmp_path / "photo.png").write_bytes(png((1, 2, 3)))
    with serving(tmp_path) as url:
        image = body["input"]["images"][0]
        image["image"] = image["image"].replace("https://example.com", url)
        job = run(platform, body)
    assert shape(job["output"]) == shape(sample("README.md", '"timings"'))
    assert job["output"]["images"][0]["filename"] == "out_00001_.png"


def test_a_film_is_in_two_lists_as_shown(platform: RunningPlatform) -> None:
    job = run(platform, json.loads((EXAMPLES / "video.json").read_text()))
    assert shape(job["output"]) == shape(sample(API, '"same_as"'))


def test_a_failed_job_is_as_shown(platform: RunningPlatform) -> None:
    wide = node("EmptyImage", width="wide", height=8, batch_size=1, color=0)
    saved = node("SaveImage", images=["2", 0], filename_prefix="x")
    job = platform.run_sync(request({"2": wide, "3": saved}))
    shown = sample(API, '"FAILED"')
    assert shape(job) == shape(shown)
    assert (job["error"], job["output"]) == (shown["error"], shown["output"])


def test_the_first_job_is_as_shown_and_tells_its_webhook(platform: RunningPlatform) -> None:
    body, shown = sample(API, '"policy"'), sample(API, '"COMPLETED"')
    with receiving(200) as receiver:
        body["webhook"] = receiver.url
        job = run(platform, body)
        (call,) = receiver.wait(1)
    assert shape(job) == shape(shown)
    (image,), (shown_image,) = job["output"]["images"], shown["output"]["images"]
    for field in ("filename", "node_id", "width", "height"):
        assert image[field] == shown_image[field]
    assert call["id"] == job["id"]


def test_a_dry_run_says_what_is_shown(platform: RunningPlatform) -> None:
    output = run(platform, sample(API, '"dry_run": true'))["output"]
    shown = sample(API, '"status": "dry_run"')
    assert shape(output) == shape(shown)
    assert {**output, "timings": None} == {**shown, "timings": None}


def test_the_first_file_is_seen_while_the_live_sample_runs(platform: RunningPlatform) -> None:
    body = sample(API, '"live": true')
    job_id = platform.run(body["input"])
    running = platform.wait_for(job_id, lambda job: "files" in job.get("output", {}))
    assert running["status"] == "IN_PROGRESS"
    assert running["output"]["files"] == sample(API, '"preview"')["files"]
    done = platform.wait(job_id, 60)
    assert [image["filename"] for image in done["output"]["images"]] == [
        "first_00001_.png",
        "last_00001_.png",
    ]


def test_the_sample_with_a_bucket_gives_an_address_that_works(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    body = sample(API, '"s3Config"')
    with serving_s3(tmp_path) as s3:
        s3.make_bucket(body["s3Config"]["bucketName"])
        keys = {"accessId": ACCESS_KEY, "accessSecret": SECRET_KEY}
        body["s3Config"] |= {"endpointUrl": s3.url, **keys}
        (image,) = run(platform, body)["output"]["images"]
        assert (image["filename"], image["type"]) == ("cat_00001_.png", "s3_url")
        content = requests.get(image["data"], timeout=10).content
    assert len(content) == image["bytes"]


def test_what_is_wrong_with_a_workflow_has_the_code_that_is_said(platform: RunningPlatform) -> None:
    picture = base64.b64encode(png((0, 0, 0))).decode()
    unreadable: list[Any] = [picture, {"nodes": [], "links": []}, "unknown-name"]
    for workflow in unreadable:
        output = platform.run_sync({"workflow": workflow})["output"]
        assert output["error_code"] == "INVALID_REQUEST"
        assert [detail["path"] for detail in output["details"]] == ["workflow"]
    no_workflows: list[Any] = [{}, {"1": 1}, [1], None]
    for workflow in no_workflows:
        output = platform.run_sync({"workflow": workflow})["output"]
        assert output["error_code"] == "INVALID_WORKFLOW"


@pytest.mark.parametrize(
    "name", ["image-to-image", "inpainting-mask", "video", "animated-webp", "progress"]
)
def test_a_stored_example_wants_its_picture(name: str, platform: RunningPlatform) -> None:
    job = platform.run_sync({"workflow": name})
    assert job["output"]["error_code"] == "PROMPT_REJECTED"
    assert "send it in `images`" in job["error"]


@pytest.mark.parametrize("name", ["audio", "editor/frame"])
def test_a_stored_example_without_a_picture_runs_by_its_name(
    name: str, platform: RunningPlatform
) -> None:
    assert platform.run_sync({"workflow": name})["status"] == "COMPLETED"


def test_a_stored_example_runs_with_the_picture_that_is_sent(platform: RunningPlatform) -> None:
    images = json.loads((EXAMPLES / "video.json").read_text())["input"]["images"]
    job = platform.run_sync({"workflow": "video", "images": images})
    assert job["status"] == "COMPLETED"
    (note,) = job["output"]["errors"]
    assert "its `images` are not used" in note
