"""Files of jobs: each job returns its own, whatever ran before, beside it, or was there already."""

from __future__ import annotations

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import wait_until
from tests.support.worker import WorkerUnderTest, running_worker, worker_is_clean
from tests.support.workflows import (
    color_of,
    empty_image,
    file_item,
    input_image,
    node,
    png,
    reporting,
    saved_input,
)


def contents(result: dict[str, Any]) -> dict[str, bytes]:
    return {f["filename"]: base64.b64decode(f["data"]) for f in result["files"]}


def test_the_same_request_twice_returns_the_same_files_twice(worker: WorkerUnderTest) -> None:
    request = {
        "workflow": {**saved_input("photo.png"), "3": node("PreviewImage", images=["1", 0])},
        "images": [input_image("photo.png", (10, 20, 30))],
    }
    results = [worker.run(request) for _ in range(3)]

    for result in results:
        assert [color_of(file) for file in result["images"]] == [(10, 20, 30)]
        assert [file["filename"] for file in result["images"]] == ["result_00001_.png"]
        assert "errors" not in result
    assert worker_is_clean(worker)


def test_a_cached_node_without_a_prefix_runs_again_when_its_file_was_cleaned_away(
    worker: WorkerUnderTest, tmp_path: Path
) -> None:
    counter = tmp_path / "runs"
    workflow = {
        "1": node("TestSaveCached", text="one", name="fixed.txt", counter=str(counter)),
        "2": empty_image(0x00FF00),
        "3": node("SaveImage", images=["2", 0], filename_prefix="with prefix"),
    }
    for run in range(1, 4):
        result = worker.run({"workflow": workflow})
        assert contents(result) == {"fixed.txt": b"one"}
        assert color_of(result["images"][0]) == (0, 255, 0)
        assert "errors" not in result
        assert counter.read_text() == str(run)
        assert worker_is_clean(worker)


def test_a_node_that_lies_about_its_file_is_not_run_twice(
    worker: WorkerUnderTest, tmp_path: Path
) -> None:
    counter = tmp_path / "runs"
    workflow = {
        **reporting({"files": [file_item("never-written.bin")]}),
        "2": node("TestSaveCached", text="honest", name="h.txt", counter=str(counter)),
    }
    result = worker.run({"workflow": workflow})

    assert contents(result) == {"h.txt": b"honest"}
    assert result["errors"] == ["node 1: reported the file never-written.bin, which is not there"]
    assert counter.read_text() == "1"


def test_the_same_input_name_with_other_content_gives_the_other_result(
    worker: WorkerUnderTest,
) -> None:
    for color in ((255, 0, 0), (0, 255, 0), (255, 0, 0)):
        result = worker.run(
            {"workflow": saved_input("photo.png"), "images": [input_image("photo.png", color)]}
        )
        assert color_of(result["images"][0]) == color


def scene(name: str, key: str = "image") -> dict[str, Any]:
    return {
        "1": node("TestLoadScene", scene={"mask": "", key: name, "camera": {"zoom": 1}}),
        "2": node("PreviewAny", source=["1", 0]),
    }


def test_a_file_that_stands_in_an_object_is_that_of_the_job(worker: WorkerUnderTest) -> None:
    for color in ((255, 0, 0), (0, 255, 0), (255, 0, 0), (0, 0, 255)):
        result = worker.run(
            {"workflow": scene("scene.png"), "images": [input_image("scene.png", color)]}
        )
        assert [text["text"] for text in result["texts"]] == [str(color)]


@pytest.mark.parametrize("place", ["../{}", "{folder}/{}", "{} [output]"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_no_way_of_writing_a_file_s_name_leads_out_of_the_job(
    worker: WorkerUnderTest, place: str, wrapped: bool
) -> None:
    secret = worker.folders.input.parent / "secret.png"
    secret.write_bytes(png((1, 2, 3)))
    name = place.format(secret.name, folder=secret.parent)
    loaded = saved_input("x.png")
    loaded["1"]["inputs"]["image"] = {"__value__": name} if wrapped else name
    try:
        results = [worker.run({"workflow": workflow}) for workflow in (loaded, scene(name))]
    finally:
        secret.unlink()
    for result in results:
        assert result["error_code"] == "PROMPT_REJECTED"
        assert "send the file in `images`" in result["error"]
        assert 'such as "secret.png"' in result["error"]


def test_an_input_of_an_earlier_job_cannot_be_loaded(worker: WorkerUnderTest) -> None:
    request = {"workflow": saved_input("mine.png"), "images": [input_image("mine.png", (1, 2, 3))]}
    assert color_of(worker.run(request)["images"][0]) == (1, 2, 3)
    result = worker.run({"workflow": saved_input("mine.png")})

    assert result["error_code"] == "PROMPT_REJECTED"
    assert "mine.png" in result["error"]


@pytest.mark.parametrize("concurrency", [2, 3])
def test_jobs_at_once_with_the_same_input_name_each_get_their_own_result(
    tmp_path: Path, concurrency: int
) -> None:
    with running_worker(tmp_path, WORKER_CONCURRENCY=str(concurrency)) as worker:
        together = threading.Barrier(concurrency)

        def colors(number: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
            pairs: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
            for turn in range(6):
                color = (number * 50 + 20, turn * 30, 100)
                together.wait()
                result = worker.run(
                    {
                        "workflow": saved_input("photo.png"),
                        "images": [input_image("photo.png", color)],
                    }
                )
                pairs += [(color_of(file), color) for file in result["images"]]
            return pairs

        with ThreadPoolExecutor(concurrency) as pool:
            pairs = [pair for found in pool.map(colors, range(concurrency)) for pair in found]
        assert len(pairs) == 6 * concurrency
        assert [found for found, _ in pairs] == [sent for _, sent in pairs]
        assert worker_is_clean(worker)


@pytest.mark.parametrize("name", ["example.png", "folder/example.png", f"{'n' * 251}.png"])
def test_an_input_file_that_was_there_before_is_put_back(
    worker: WorkerUnderTest, name: str
) -> None:
    path = worker.folders.input / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(png((7, 7, 7)))
    try:
        result = worker.run(
            {"workflow": saved_input(name), "images": [input_image(name, (200, 0, 0))]}
        )
        assert color_of(result["images"][0]) == (200, 0, 0)
        assert path.read_bytes() == png((7, 7, 7))
        assert worker.files() == [f"input/{name}"]

        result = worker.run({"workflow": saved_input(name)})
        assert color_of(result["images"][0]) == (7, 7, 7)
    finally:
        path.unlink()


def test_an_input_file_that_was_there_before_is_put_back_after_a_failure_too(
    worker: WorkerUnderTest,
) -> None:
    path = worker.folders.input / "example.png"
    path.write_bytes(png((7, 7, 7)))
    try:
        workflow = {**saved_input("example.png"), "3": node("TestFail", message="no")}
        worker.run({"workflow": workflow, "images": [input_image("example.png", (1, 1, 1))]})
        assert path.read_bytes() == png((7, 7, 7))
    finally:
        path.unlink()


def test_a_refused_prompt_leaves_nothing_behind(worker: WorkerUnderTest) -> None:
    result = worker.run(
        {
            "workflow": {**saved_input("a.png"), "3": node("NoSuchNode")},
            "images": [input_image("a.png", (0, 0, 0)), input_image("b/c/d.png", (0, 0, 0))],
        }
    )

    assert result["error_code"] == "PROMPT_REJECTED"
    assert worker_is_clean(worker)
    assert not (worker.folders.input / "b").exists()


def test_what_a_node_saves_outside_its_own_folder_is_removed_too(worker: WorkerUnderTest) -> None:
    files = {"a/same.bin": b"A", "b/same.bin": b"B", "top.bin": b"T"}
    items = [file_item("same.bin", "a"), file_item("same.bin", "b"), file_item("top.bin")]
    result = worker.run({"workflow": reporting({"files": items}, files)})

    assert [base64.b64decode(file["data"]) for file in result["files"]] == [b"A", b"B", b"T"]
    assert worker_is_clean(worker)
    assert list((worker.folders.output).iterdir()) == []


def test_a_link_out_of_the_output_folder_is_not_followed_when_cleaning(
    worker: WorkerUnderTest, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.bin").write_bytes(b"precious")
    link = worker.folders.output / "link"
    link.symlink_to(outside)
    try:
        worker.run({"workflow": reporting({"files": [file_item("precious.bin", "link")]})})
        assert (outside / "precious.bin").read_bytes() == b"precious"
    finally:
        link.unlink()


def test_a_full_disk_while_a_node_saves_is_its_own_error(worker: WorkerUnderTest) -> None:
    workflow = {
        "1": node("TestSleep", seconds=0.5),
        "2": node("TestOutput", ui="{}", files=json.dumps({"full.bin": "bXVjaA=="}), any=["1", 0]),
    }
    job = worker.start({"workflow": workflow})
    wait_until(lambda: job.updates)
    (worker.folders.output / "full.bin").symlink_to("/dev/full")
    result = job.result()

    assert result["error_code"] == "DISK_FULL"
    assert result["retryable"] is True
    assert result["details"][0]["node_id"] == "2"
    assert worker_is_clean(worker)
