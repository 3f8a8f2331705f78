"""A job that is watched (`output.live`), on a real ComfyUI or its stand-in."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from tests.support.comfyui import FAULT_NODES
from tests.support.worker import WorkerUnderTest, running_worker, worker_is_clean
from tests.support.workflows import Workflow, empty_image, node, saved_image
from worker_comfyui import __version__

PROBE_NODES = FAULT_NODES.with_name("probe_nodes.py")


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerUnderTest]:
    base = tmp_path_factory.mktemp("comfyui")
    with running_worker(base, (FAULT_NODES, PROBE_NODES)) as running:
        yield running


@pytest.fixture(autouse=True)
def left_clean(worker: WorkerUnderTest) -> Iterator[None]:
    yield
    assert worker_is_clean(worker)


def sampling(seed: int, *, seconds: float = 0.2, steps: int = 4) -> Workflow:
    """A workflow whose first save is done before a node shows previews."""
    return {
        "1": empty_image(seed),
        "2": node("SaveImage", images=["1", 0], filename_prefix="early"),
        "3": node("ProbeSleep", image=["1", 0], seconds=seconds, steps=steps, preview=True),
        "4": node("SaveImage", images=["3", 0], filename_prefix="late"),
    }


def picture(preview: Any) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(preview["data"])))
    image.load()
    assert image.size == (preview["width"], preview["height"])
    return image


def test_previews_and_finished_files_come_while_it_runs(worker: WorkerUnderTest) -> None:
    job = worker.start({"workflow": sampling(1), "output": {"live": True}})
    result = job.result()

    shown = [update["preview"] for update in job.updates if "preview" in update]
    assert picture(shown[0]).size == (256, 256)  # ComfyUI sends it at 512
    assert {preview["media_type"] for preview in shown} == {"image/jpeg"}
    named = [update.get("files", []) for update in job.updates]
    assert sorted(named[-1]) == ["early_00001_.png", "late_00001_.png"]
    assert len(result["images"]) == 2


def test_the_newest_preview_is_shown_at_most_once_a_second(worker: WorkerUnderTest) -> None:
    job = worker.start({"workflow": sampling(2, seconds=2.4, steps=24), "output": {"live": True}})
    job.result()

    shown = {update["preview"]["data"] for update in job.updates if "preview" in update}
    assert 2 <= len(shown) <= 4  # the first, one a second, the last


def test_a_job_that_nobody_watches_has_percents_alone(worker: WorkerUnderTest) -> None:
    job = worker.start({"workflow": sampling(3)})
    job.result()

    assert job.updates
    assert all(update.keys() <= {"percent", "node_id", "node", "node_percent", "message"}
               for update in job.updates)  # fmt: skip


@pytest.mark.parametrize("sent", [{}, {"preview_method": "none"}])
def test_comfyui_is_asked_for_previews_unless_the_caller_says_how(
    worker: WorkerUnderTest, sent: dict[str, str]
) -> None:
    workflow = sampling(4 + len(sent), seconds=5)
    job = worker.start({"workflow": workflow, "output": {"live": True}, "extra_data": sent})
    running: list[Any] = []
    while not running:
        running = worker.comfyui("/queue")["queue_running"]
    job.cancel()

    assert job.was_cancelled()
    assert running[0][3]["preview_method"] == sent.get("preview_method", "auto")


def test_a_result_says_what_made_it_and_what_its_files_are(worker: WorkerUnderTest) -> None:
    result = worker.run({"workflow": saved_image(6)})

    version = worker.comfyui("/system_stats")["system"]["comfyui_version"]
    assert result["worker"] == {"version": __version__, "comfyui": version}
    (image,) = result["images"]
    assert image["sha256"] == hashlib.sha256(base64.b64decode(image["data"])).hexdigest()


def test_a_dry_run_names_no_versions_since_nothing_ran(worker: WorkerUnderTest) -> None:
    result = worker.run({"workflow": saved_image(8), "dry_run": True})

    assert result["status"] == "dry_run"
    assert "worker" not in result


def test_the_sum_is_of_the_file_as_it_comes(worker: WorkerUnderTest) -> None:
    result = worker.run({"workflow": saved_image(7), "output": {"format": "webp"}})

    (image,) = result["images"]
    assert image["media_type"] == "image/webp"
    assert image["sha256"] == hashlib.sha256(base64.b64decode(image["data"])).hexdigest()
