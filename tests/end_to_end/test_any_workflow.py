"""Whatever has a workflow in it runs, as a client of the platform sees it."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.conftest import StartPlatform
from tests.end_to_end.workflows import Workflow, colour_of, pictures, request, solid_colour
from tests.support.platform import ROOT, RunningPlatform

FOLDER = ROOT / "test_resources" / "workflows"
FRAME: dict[str, Any] = json.loads((FOLDER / "editor" / "frame.json").read_text())
BLUE, YELLOW, RED, CYAN = 0x0000FF, 0xFFFF00, 0xFF0000, 0x00FFFF
SEEDED: Workflow = {
    "1": {"class_type": "PrimitiveInt", "inputs": {"value": 5}, "_meta": {"title": "Seed"}},
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
}


@pytest.fixture(scope="module")
def platform(start: StartPlatform) -> Iterator[RunningPlatform]:
    """A platform whose worker has stored workflows and embeds them in its files."""
    with start(env={"WORKFLOWS_PATH": str(FOLDER), "EMBED_METADATA": "true"}) as running:
        yield running


def output(job: dict[str, Any]) -> dict[str, Any]:
    """The result of a completed job."""
    assert job["status"] == "COMPLETED", job
    found: dict[str, Any] = job["output"]
    return found


def data_uri(job: dict[str, Any]) -> str:
    """The only picture of a job, as one can send it."""
    (image,) = output(job)["images"]
    return f"data:{image['media_type']};base64,{image['data']}"


# --- what may be sent as `workflow`


def test_a_file_of_the_editor_gives_its_picture(platform: RunningPlatform) -> None:
    # A primitive sets the colour, a subgraph inverts and scales it, and a node is bypassed.
    job = platform.run_sync(request(FRAME))
    assert colour_of(job) == YELLOW
    (picture,) = pictures(job)
    assert picture.size == (32, 24)
    (image,) = output(job)["images"]
    assert (image["filename"], image["node_id"]) == ("frame_00001_.png", "5")


def test_a_refused_node_that_another_version_saved_says_so(platform: RunningPlatform) -> None:
    file = copy.deepcopy(FRAME)
    (subgraph,) = file["definitions"]["subgraphs"]
    scale = next(node for node in subgraph["nodes"] if node["type"] == "ImageScale")
    scale["widgets_values"] = ["nearest-exact", "new", 32, 24, "disabled"]
    job = platform.run_sync(request(file))
    assert job["status"] == "FAILED"
    assert "width would be 'new'): it was saved with another version" in job["error"]


@pytest.mark.parametrize("name", ["editor/frame", "editor/frame.json"])
def test_a_stored_workflow_runs_by_its_name(name: str, platform: RunningPlatform) -> None:
    assert colour_of(platform.run_sync({"workflow": name})) == YELLOW


def test_an_unknown_name_is_an_error_that_says_what_is_stored(platform: RunningPlatform) -> None:
    job = platform.run_sync({"workflow": "editor/farme"})
    assert job["output"]["error_code"] == "INVALID_REQUEST"
    assert "editor/frame" in job["error"]


def test_a_job_tells_what_is_stored(platform: RunningPlatform) -> None:
    said = output(platform.run_sync({"workflows": "list"}))["workflows"]
    assert said["folders"] == [str(FOLDER)]
    assert {"editor/frame", "sdxl", "video"} <= set(said["names"])


@pytest.mark.parametrize("sent", [FRAME, solid_colour(RED)], ids=["editor", "api"])
def test_a_result_runs_again_when_it_is_sent_as_a_workflow(
    sent: dict[str, Any], platform: RunningPlatform
) -> None:
    first = platform.run_sync(request(sent))
    again = platform.run_sync({"workflow": data_uri(first)})
    assert colour_of(again) == colour_of(first)
    # Its own result has the editor's file as well, so that it can be opened there.
    (before,), (after,) = pictures(first), pictures(again)
    assert after.info.get("workflow") == before.info.get("workflow")
    assert ("workflow" in after.info) == (sent is FRAME)


def test_the_body_of_comfyui_s_own_api_runs(platform: RunningPlatform) -> None:
    assert colour_of(platform.run_sync({"prompt": solid_colour(RED)})) == RED


# --- overrides


def test_overrides_set_inputs_by_id_title_and_class(platform: RunningPlatform) -> None:
    overrides = {"EmptyImage.color": RED, "Result.filename_prefix": "other", "3:12.width": 16}
    job = platform.run_sync(request(FRAME, overrides=overrides))
    assert colour_of(job) == CYAN
    assert pictures(job)[0].size == (16, 24)
    assert output(job)["images"][0]["filename"] == "other_00001_.png"


def test_a_random_seed_is_told_in_the_result(platform: RunningPlatform) -> None:
    sent = request(SEEDED, overrides={"Seed.value": "random"})
    first, second = (output(platform.run_sync(sent)) for _ in range(2))
    assert first["drawn"].keys() == second["drawn"].keys() == {"1.value"}
    assert first["drawn"] != second["drawn"]
    assert first["texts"] == [{"node_id": "2", "text": str(first["drawn"]["1.value"])}]


def test_a_wrong_override_is_refused_with_what_there_is(platform: RunningPlatform) -> None:
    job = platform.run_sync(request(FRAME, overrides={"EmptyImage.colour": 1, "9.text": "a"}))
    assert job["output"]["error_code"] == "INVALID_REQUEST"
    wrong, unknown = job["output"]["details"]
    assert wrong["did_you_mean"] == "color"
    assert "9" in unknown["message"]


# --- a dry run


def test_a_dry_run_lists_inputs_and_problems(platform: RunningPlatform) -> None:
    sent = copy.deepcopy(FRAME)
    sent["nodes"][0]["widgets_values"][0] = 0  # below the least width
    found = output(platform.run_sync(request(sent, dry_run=True)))
    assert found["status"] == "dry_run"
    assert found["workflow"]["3:11"]["class_type"] == "ImageInvert"
    by_name = {f"{one['node_id']}.{one['input']}": one for one in found["inputs"]}
    assert by_name["1.color"]["value"] == BLUE
    assert by_name["5.filename_prefix"]["title"] == "Result"
    (problem,) = found["problems"]
    assert (problem["node_id"], problem["input"]) == ("1", "width")
    assert "images" not in found


def test_a_dry_run_waits_for_nobody(start: StartPlatform) -> None:
    with start(env={"WORKER_CONCURRENCY": "2"}) as running:
        busy = running.run(request(solid_colour(RED, seconds=60)))
        running.wait_for(busy, lambda job: "output" in job)
        began = time.monotonic()
        found = output(running.run_sync(request(solid_colour(BLUE), dry_run=True)))
        assert time.monotonic() - began < 15
        assert found["problems"] == []
        assert running.status(busy)["status"] == "IN_PROGRESS"
        running.post(f"/cancel/{busy}")


# --- what comes back on demand


def test_the_workflow_that_ran_comes_back_on_demand(platform: RunningPlatform) -> None:
    sent = request(FRAME, overrides={"1.color": RED}, output={"workflow": True})
    found = output(platform.run_sync(sent))
    assert found["workflow"]["1"]["inputs"]["color"] == RED
    again = platform.run_sync(request(found["workflow"]))
    assert colour_of(again) == CYAN
    assert "workflow" not in output(again)


def test_previews_come_back_on_demand(platform: RunningPlatform) -> None:
    workflow = solid_colour(RED)
    workflow["4"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    without = output(platform.run_sync(request(workflow)))
    assert [image["node_id"] for image in without["images"]] == ["3"]
    found = output(platform.run_sync(request(workflow, output={"previews": True})))
    assert [image["node_id"] for image in found["images"]] == ["3", "4"]


def test_a_video_is_listed_as_an_image_too_and_its_data_comes_once(
    platform: RunningPlatform,
) -> None:
    body = json.loads((FOLDER / "video.json").read_text())
    found = output(platform.run_sync(body["input"]))
    (image,), (video,) = found["images"], found["videos"]
    assert image["media_type"] == "video/mp4"
    assert image["data"]
    assert (video["type"], video["same_as"]) == ("same_as", "images[0]")
    assert video["filename"] == image["filename"]


def test_extra_data_goes_into_the_files(platform: RunningPlatform) -> None:
    extra = {"extra_pnginfo": {"who": "a test"}}
    (picture,) = pictures(platform.run_sync(request(solid_colour(RED), extra_data=extra)))
    assert json.loads(picture.info["who"]) == "a test"
