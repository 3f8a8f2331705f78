"""A client's view of the real worker: sockets only, from the gateway to ComfyUI and back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import ImageChops

from tests.end_to_end.conftest import StartPlatform
from tests.end_to_end.workflows import colour_of, pictures, request, solid_colour
from tests.support.described import Notes, check
from tests.support.handler import comfyui_folders
from tests.support.platform import ROOT, RunningPlatform
from tests.support.waiting import wait_until
from tests.support.worker import files_in


@pytest.fixture(scope="module")
def platform(start: StartPlatform) -> Iterator[RunningPlatform]:
    """A platform whose worker must get through all tests without a scratch."""
    with start() as running:
        before = set(running.worker_pids())
        yield running
        assert set(running.worker_pids()) == before
        assert running.health()["jobs"]["retried"] == 0
        traces = [line for line in running.lines if "Traceback" in line]
        assert [line for line in traces if '"source": "comfyui"' not in line] == []


def test_the_example_request_gives_its_two_pictures(platform: RunningPlatform) -> None:
    body = json.loads((ROOT / "test_input.json").read_text())
    job = platform.post("/runsync", body).json()
    day, night = pictures(job)
    assert day.size == night.size == (640, 400)
    inverted = ImageChops.invert(day.convert("RGB"))
    difference = ImageChops.difference(inverted, night.convert("RGB"))
    # ComfyUI computes with fractions, and cuts them off in either picture.
    assert max(difference.tobytes()) <= 1
    names = [image["filename"] for image in job["output"]["images"]]
    assert names == ["day_00001_.png", "night_00001_.png"]


def test_what_is_said_is_held_against_the_description(
    platform: RunningPlatform, notes: Notes
) -> None:
    """In every test here; this one sees that nothing escapes it."""
    notes.check()
    platform.run_sync(request(solid_colour(1)))
    platform.run_sync({"workflow": {}})
    assert notes.check() == 2
    done = platform.run_sync(request(solid_colour(1)))
    check("Result", done["output"])
    with pytest.raises(AssertionError, match="not valid under any of the given schemas"):
        check("Job", {**done, "output": {**done["output"], "unknown": 1}})


def test_progress_names_percent_and_node_while_the_job_runs(platform: RunningPlatform) -> None:
    job_id = platform.run(request(solid_colour(2, seconds=3)))

    def at_the_sleeping_node(job: dict[str, Any]) -> bool:
        return bool(job.get("output", {}).get("node") == "TestSleep")

    running = platform.wait_for(job_id, at_the_sleeping_node)
    assert running["status"] == "IN_PROGRESS"
    assert running["output"]["node_id"] == "2"
    assert 0 <= running["output"]["percent"] < 100
    assert colour_of(platform.wait(job_id)) == 2


def test_a_refused_workflow_fails_with_code_and_details(platform: RunningPlatform) -> None:
    workflow = solid_colour(3)
    workflow["1"]["inputs"]["width"] = "wide"
    job = platform.run_sync(request(workflow))
    assert job["status"] == "FAILED"
    assert job["error"].startswith(job["output"]["error_code"] + ": ")
    assert job["output"]["retryable"] is False
    assert "width" in json.dumps(job["output"]["details"])
    assert "retries" not in job


def test_a_failing_node_fails_the_job_and_the_next_one_works(platform: RunningPlatform) -> None:
    workflow = {"1": {"class_type": "TestFail", "inputs": {"message": "on purpose"}}}
    job = platform.run_sync(request(workflow))
    assert job["status"] == "FAILED"
    assert "on purpose" in job["error"]
    assert colour_of(platform.run_sync(request(solid_colour(4)))) == 4


def test_a_job_cancelled_in_the_queue_never_runs(platform: RunningPlatform) -> None:
    first = platform.run(request(solid_colour(5, seconds=1)))
    platform.wait_for(first, lambda job: job["status"] == "IN_PROGRESS")
    queued = platform.run(request(solid_colour(6)))
    assert platform.post(f"/cancel/{queued}").json() == {"id": queued, "status": "CANCELLED"}
    assert colour_of(platform.wait(first)) == 5
    assert colour_of(platform.run_sync(request(solid_colour(7)))) == 7
    assert platform.status(queued) == {"id": queued, "status": "CANCELLED"}


def test_cancelling_a_running_job_frees_comfyui_for_the_next(platform: RunningPlatform) -> None:
    job_id = platform.run(request(solid_colour(8, seconds=60)))
    platform.wait_for(job_id, lambda job: "output" in job)  # ComfyUI is at it
    assert platform.post(f"/cancel/{job_id}").json()["status"] == "CANCELLED"
    began = time.monotonic()
    assert colour_of(platform.run_sync(request(solid_colour(9)))) == 9
    assert time.monotonic() - began < 15
    assert platform.status(job_id)["status"] == "CANCELLED"


def test_the_execution_timeout_frees_comfyui_for_the_next(platform: RunningPlatform) -> None:
    job = platform.run_sync(
        request(solid_colour(10, seconds=60)), policy={"executionTimeout": 1500}
    )
    assert (job["status"], job["error"]) == ("FAILED", "executionTimeout exceeded")
    began = time.monotonic()
    assert colour_of(platform.run_sync(request(solid_colour(11)))) == 11
    assert time.monotonic() - began < 15


def test_no_file_of_any_job_is_left(platform: RunningPlatform) -> None:
    platform.run_sync(request(solid_colour(12)))
    (folder,) = platform.worker_folders()
    folders = comfyui_folders(folder / "base")
    wait_until(
        lambda: not files_in(input=folders.input, output=folders.output, temp=folders.temp), 10
    )
