"""Classes that have another name in this ComfyUI: they run, and as the job's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.worker import WorkerUnderTest, worker_is_clean
from tests.support.workflows import input_image, node
from tests.worker_comfyui.workflows import graphs


@pytest.fixture(autouse=True)
def _replaces_classes(worker: WorkerUnderTest) -> None:
    if worker.get("/node_replacements").status_code != 200:
        pytest.skip("this ComfyUI replaces no classes")


def saved(counter: Path, *, renamed_inputs: bool) -> dict[str, Any]:
    values = {"text": "mine", "name": "a.txt", "counter": str(counter)}
    if not renamed_inputs:
        return node("TestSaveCachedOnce", **values)
    old = {"content": values["text"], "file": values["name"], "counter": values["counter"]}
    return node("TestSaveCachedBefore", **old)


@pytest.mark.parametrize("renamed_inputs", [False, True])
def test_an_output_node_with_an_old_name_runs_in_every_job(
    worker: WorkerUnderTest, tmp_path: Path, renamed_inputs: bool
) -> None:
    counter = tmp_path / "runs"
    workflow = {"1": saved(counter, renamed_inputs=renamed_inputs)}
    for run in range(1, 4):
        result = worker.run({"workflow": workflow})
        assert [file["filename"] for file in result["files"]] == ["a.txt"]
        assert "errors" not in result
        assert counter.read_text() == str(run)
    assert worker_is_clean(worker)


def test_a_file_that_an_old_name_reads_is_that_of_the_job(worker: WorkerUnderTest) -> None:
    workflow = {
        "1": node("TestLoadSceneOnce", scene={"image": "scene.png"}),
        "2": node("PreviewAny", source=["1", 0]),
    }
    for color in ((255, 0, 0), (0, 255, 0)):
        request = {"workflow": workflow, "images": [input_image("scene.png", color)]}
        assert [text["text"] for text in worker.run(request)["texts"]] == [str(color)]


def test_an_old_name_leads_out_of_no_job(worker: WorkerUnderTest) -> None:
    workflow = {
        "1": node("TestLoadSceneOnce", scene={"image": "../secret.png"}),
        "2": node("PreviewAny", source=["1", 0]),
    }
    result = worker.run({"workflow": workflow})
    assert result["error_code"] == "PROMPT_REJECTED"
    assert result["details"][0]["class_type"] == "TestLoadScene"
    assert "leads out of the job's folder" in result["error"]


def test_a_file_of_the_editor_with_an_old_name_runs(
    worker: WorkerUnderTest, tmp_path: Path
) -> None:
    values = ("mine", "a.txt", str(tmp_path / "runs"))
    for old in ("TestSaveCachedOnce", "TestSaveCachedBefore"):
        result = worker.run({"workflow": graphs.graph(graphs.node(1, old, *values, gives=()))})
        assert [file["filename"] for file in result["files"]] == ["a.txt"]


def test_a_dry_run_shows_the_class_that_would_run(worker: WorkerUnderTest, tmp_path: Path) -> None:
    workflow = {"1": saved(tmp_path / "runs", renamed_inputs=True)}
    result = worker.run({"workflow": workflow, "dry_run": True})
    assert result["workflow"]["1"]["class_type"] == "TestSaveCached"
    assert result["workflow"]["1"]["inputs"]["text"] == "mine"
    assert result["problems"] == []


def test_a_core_class_with_an_old_name_runs_as_its_successor(worker: WorkerUnderTest) -> None:
    if "T2IAdapterLoader" not in worker.get("/node_replacements").text:
        pytest.skip("this ComfyUI has no core classes with old names")
    loader = node("T2IAdapterLoader", t2i_adapter_name="missing.safetensors")
    result = worker.run({"workflow": {"1": loader, "2": node("PreviewAny", source=["1", 0])}})
    assert "is 'missing.safetensors', which is not among the choices" in result["error"]
