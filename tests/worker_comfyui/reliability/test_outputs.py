"""What workflows make, through the whole worker: every kind of output and of failure."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from tests.support.comfyui import REAL_COMFYUI
from tests.support.waiting import wait_until
from tests.support.worker import WorkerUnderTest, worker_is_clean
from tests.support.workflows import (
    Workflow,
    color_of,
    empty_image,
    file_item,
    node,
    png,
    reporting,
    saved_image,
)


@pytest.fixture(autouse=True)
def left_clean(worker: WorkerUnderTest) -> Iterator[None]:
    yield
    assert worker_is_clean(worker)


def saver(class_type: str, **inputs: Any) -> dict[str, dict[str, Any]]:
    return {
        "0": node("EmptyImage", width=16, height=12, batch_size=2, color=255),
        "9": node("EmptyImage", width=16, height=12, batch_size=1, color=0),
        "1": node("ImageBatch", image1=["0", 0], image2=["9", 0]),
        "2": node(class_type, images=["1", 0], filename_prefix="sub/made", **inputs),
    }


def test_several_images_of_one_node_come_in_order_with_their_sizes(
    worker: WorkerUnderTest,
) -> None:
    result = worker.run({"workflow": saver("SaveImage")})

    assert [
        (f["filename"], f["subfolder"], f["media_type"], f["width"], f["height"], f["node_id"])
        for f in result["images"]
    ] == [(f"made_0000{i}_.png", "sub", "image/png", 16, 12, "2") for i in (1, 2, 3)]
    assert all(len(base64.b64decode(f["data"])) == f["bytes"] for f in result["images"])


@pytest.mark.parametrize(
    ("class_type", "inputs", "media_type"),
    [
        ("SaveAnimatedWEBP", {"fps": 6.0, "lossless": True, "quality": 80, "method": "default"},
         "image/webp"),
        ("SaveAnimatedPNG", {"fps": 6.0, "compress_level": 4}, "image/apng"),
    ],
)  # fmt: skip
def test_animated_images_are_images(
    worker: WorkerUnderTest, class_type: str, inputs: dict[str, Any], media_type: str
) -> None:
    result = worker.run({"workflow": saver(class_type, **inputs), "output": {"format": "jpeg"}})

    (file,) = result["images"]
    assert file["media_type"] == media_type
    assert file["animated"] is True
    with Image.open(io.BytesIO(base64.b64decode(file["data"]))) as image:
        assert image.size == (16, 12)


def test_native_video_reported_under_images_is_a_video(worker: WorkerUnderTest) -> None:
    workflow = {
        "1": node("EmptyImage", width=16, height=16, batch_size=3, color=255),
        "2": node("CreateVideo", images=["1", 0], fps=8.0),
        "3": node("SaveVideo", video=["2", 0], filename_prefix="clip", format="mp4", codec="h264"),
    }
    result = worker.run({"workflow": workflow})

    (video,) = result["videos"]
    assert video["media_type"] == "video/mp4"
    assert video["same_as"] == "images[0]"
    assert "data" not in video
    (image,) = result["images"]  # where the existing worker returns it
    assert image["media_type"] == "video/mp4"
    assert base64.b64decode(image["data"])[4:8] == b"ftyp"


def test_files_of_every_kind_find_their_list_and_media_type(worker: WorkerUnderTest) -> None:
    ui = {
        "gifs": [{**file_item("clip.webm"), "format": "video/webm", "frame_rate": 8.0}],
        "audio": [file_item("sound.flac", "audio")],
        "3d": [file_item("mesh.glb")],
        "latents": [file_item("x.latent")],
        "anything": [file_item("data.bin"), file_item("without_extension")],
        "text": ["a caption", "another"],
        "number": [7],
    }
    files = {
        "clip.webm": b"\x1aE\xdf\xa3webm",
        "audio/sound.flac": b"fLaC",
        "mesh.glb": b"glTF",
        "x.latent": b"latent",
        "data.bin": b"\x00\x01",
        "without_extension": png((1, 2, 3)),
    }
    result = worker.run({"workflow": reporting(ui, files)})

    lists = {
        kind: {f["filename"]: f["media_type"] for f in result[kind]}
        for kind in ("images", "videos", "audio", "files")
    }
    assert lists["images"] == {"without_extension": "image/png"}
    assert lists["videos"] == {"clip.webm": "video/webm"}
    assert lists["audio"] == {"sound.flac": "audio/flac"}
    assert lists["files"]["mesh.glb"] == "model/gltf-binary"
    assert set(lists["files"]) == {"mesh.glb", "x.latent", "data.bin"}
    assert [text["text"] for text in result["texts"]] == ["a caption", "another", "7"]
    sent = [f for kind in lists for f in result[kind]]
    assert sorted(base64.b64decode(f["data"]) for f in sent) == sorted(files.values())


def test_equal_names_from_two_folders_do_not_collide(worker: WorkerUnderTest) -> None:
    workflow = {
        "1": empty_image(0xFF0000),
        "2": empty_image(0x0000FF),
        "3": node("SaveImage", images=["1", 0], filename_prefix="a/same"),
        "4": node("SaveImage", images=["2", 0], filename_prefix="b/same"),
    }
    result = worker.run({"workflow": workflow})

    assert {(f["subfolder"], f["filename"]): color_of(f) for f in result["images"]} == {
        ("a", "same_00001_.png"): (255, 0, 0),
        ("b", "same_00001_.png"): (0, 0, 255),
    }


def test_previews_are_left_out(worker: WorkerUnderTest) -> None:
    workflow = {**saved_image(0x00FF00), "3": node("PreviewImage", images=["1", 0])}
    result = worker.run({"workflow": workflow})

    assert [file["node_id"] for file in result["images"]] == ["2"]
    assert "errors" not in result


def test_a_workflow_that_only_previews_says_so(worker: WorkerUnderTest) -> None:
    result = worker.run(
        {"workflow": {"1": empty_image(), "2": node("PreviewImage", images=["1", 0])}}
    )

    assert result["status"] == "success_no_images"
    assert result["images"] == []
    (warning,) = result["errors"]
    assert "only previews (node 2)" in warning
    assert "SaveImage" in warning


def test_images_are_converted_on_demand(worker: WorkerUnderTest) -> None:
    result = worker.run(
        {"workflow": saved_image(0x00FF00), "output": {"format": "webp", "quality": 80}}
    )

    (file,) = result["images"]
    assert (file["media_type"], file["filename"]) == ("image/webp", "result_00001_.webp")


def test_a_partly_valid_workflow_runs_and_says_what_was_left_out(worker: WorkerUnderTest) -> None:
    workflow = {
        **saved_image(0x0000FF),
        "3": node("SaveImage", images=["1", 0]),
        "4": node("ImageScale", image=["1", 0], upscale_method="no such method", width=8, height=8,
                  crop="disabled"),
        "5": node("SaveImage", images=["4", 0], filename_prefix="scaled"),
    }  # fmt: skip
    result = worker.run({"workflow": workflow})

    assert color_of(result["images"][0]) == (0, 0, 255)
    assert all(
        line.startswith("left out, since it is not valid: node ") for line in result["errors"]
    )
    assert any("node 4 (ImageScale), input `upscale_method`" in line for line in result["errors"])


def test_a_refused_workflow_names_node_input_and_what_is_allowed(worker: WorkerUnderTest) -> None:
    workflow = {
        "1": node("EmptyImage", width=-5, height=8, batch_size=1, color=0),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    }
    result = worker.run({"workflow": workflow})

    assert result["error_code"] == "PROMPT_REJECTED"
    assert result["retryable"] is False
    (detail,) = [d for d in result["details"] if d.get("input") == "width"]
    assert (detail["node_id"], detail["class_type"], detail["received"]) == ("1", "EmptyImage", -5)
    assert "at least 1" in detail["message"]


def test_a_failing_node_is_named_without_a_traceback(worker: WorkerUnderTest) -> None:
    result = worker.run({"workflow": {"7": node("TestFail", message="the reason")}})

    assert result["error"].startswith("EXECUTION_FAILED: node 7 (TestFail)")
    assert "RuntimeError: the reason" in result["error"]
    assert "Traceback" not in str(result)
    assert ".py" not in str(result)
    assert result["details"][0]["exception_type"] == "RuntimeError"


def test_files_that_were_saved_before_a_failure_are_delivered_with_the_error(
    worker: WorkerUnderTest,
) -> None:
    content = base64.b64encode(b"saved").decode()
    ui = '{"files": [{"filename": "saved.bin", "subfolder": "", "type": "output"}]}'
    workflow = {
        "1": node("TestOutput", ui=ui, files=f'{{"saved.bin": "{content}"}}'),
        "2": node("TestSleep", seconds=0.3),
        "3": node("TestFail", message="too late", any=["2", 0]),
    }
    result = worker.run({"workflow": workflow})

    assert [file["filename"] for file in result["files"]] == ["saved.bin"]
    assert result["errors"] == ["EXECUTION_FAILED: node 3 (TestFail) raised RuntimeError: too late"]
    assert "error" not in result


def test_memory_that_runs_out_has_its_own_code_and_a_hint(worker: WorkerUnderTest) -> None:
    message = "CUDA out of memory. Tried to allocate 20.00 GiB"
    result = worker.run({"workflow": {"1": node("TestOutOfMemory", message=message)}})

    assert result["error_code"] == "OUT_OF_MEMORY"
    assert "larger GPU" in result["error"]
    assert color_of(worker.run({"workflow": saved_image(255)})["images"][0]) == (0, 0, 255)


def test_a_blocked_branch_is_told_and_the_rest_is_delivered(worker: WorkerUnderTest) -> None:
    workflow = {
        **saved_image(0x00FF00),
        "3": node("TestBlock", message="no face was found"),
        "4": node("SaveImage", images=["3", 0], filename_prefix="never"),
    }
    result = worker.run({"workflow": workflow})

    assert len(result["images"]) == 1
    assert any("no face was found" in line for line in result["errors"])


def test_a_file_that_is_not_there_is_an_error_when_there_is_no_other(
    worker: WorkerUnderTest,
) -> None:
    result = worker.run({"workflow": reporting({"images": [file_item("nowhere.png")]})})

    assert result["error_code"] == "OUTPUT_MISSING"
    assert result["details"] == [
        {"node_id": "1", "message": "reported the file nowhere.png, which is not there"}
    ]


def test_progress_names_the_node_and_its_percent_in_order(worker: WorkerUnderTest) -> None:
    workflow = {
        "1": node("TestSleep", seconds=0.3),
        "2": node("TestSleepOutput", seconds=0.3, any=["1", 0]),
    }
    job = worker.start({"workflow": workflow})
    job.result()

    seen = [(u["node_id"], u["node"], u["percent"], u["node_percent"]) for u in job.updates]
    percents = [percent for _, _, percent, _ in seen]
    assert percents == sorted(percents)
    assert {node_id for node_id, *_ in seen} == {"1", "2"}
    assert any(0 < percent < 50 and name == "TestSleep" for _, name, percent, _ in seen)
    assert any(50 < percent < 100 and name == "TestSleepOutput" for _, name, percent, _ in seen)
    assert any(0 < node_percent < 100 for *_, node_percent in seen)
    assert "running TestSleep" in job.updates[0]["message"]


@pytest.mark.parametrize("kind", ["one file", "many files", "texts"])
def test_a_result_over_the_limit_is_a_clear_error_with_ways_out(
    worker: WorkerUnderTest, kind: str
) -> None:
    if kind == "texts":
        workflow = reporting({"text": ["x" * 1_000_000] * 25})
    else:
        count = 1 if kind == "one file" else 40
        files = {f"f{index}.bin": bytes(16_000_000 // count) for index in range(count)}
        workflow = reporting({"files": [file_item(name) for name in files]}, files)
    result = worker.run({"workflow": workflow})

    assert result["error_code"] == "RESULT_TOO_LARGE"
    assert "MB" in result["error"]
    assert "bucket" in result["error"]
    assert len(str(result)) < 5000


def test_the_limit_depends_on_how_the_job_was_sent(worker: WorkerUnderTest) -> None:
    files = {"f.bin": bytes(9_000_000)}  # 12 MB as base64
    request = {"workflow": reporting({"files": [file_item("f.bin")]}, files)}

    assert worker.run(request, id="sync-1-u1")["files"][0]["bytes"] == 9_000_000
    assert worker.run(request, id="1-u1")["error_code"] == "RESULT_TOO_LARGE"


def test_an_output_that_is_not_json_ends_the_job_in_an_error(worker: WorkerUnderTest) -> None:
    result = worker.run({"workflow": {"1": node("TestNotJson")}})

    if REAL_COMFYUI:  # its websocket sender, and with it the server, ends on such a value
        assert result["error_code"] == "COMFYUI_CRASHED"
    else:
        assert result["error_code"] == "EXECUTION_FAILED"
        assert "not JSON" in result["error"]


def test_a_node_that_joins_its_prefix_to_the_folder_itself_saves_its_file(
    worker: WorkerUnderTest,
) -> None:
    for _ in range(2):
        result = worker.run(
            {"workflow": {"1": node("TestSaveItself", text="a caption", filename_prefix="text")}}
        )
        (file,) = result["files"]
        assert file["filename"] == "text_00001_.txt"
        assert base64.b64decode(file["data"]) == b"a caption"
        assert "errors" not in result


def test_a_prefix_with_a_backslash_gives_the_name_that_comfyui_gives(
    worker: WorkerUnderTest,
) -> None:
    workflow = {
        "1": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
        "2": node("SaveImage", images=["1", 0], filename_prefix="sub\\x"),
    }
    result = worker.run({"workflow": workflow})
    (image,) = result["images"]
    assert (image["filename"], image["node_id"]) == ("sub\\x_00001_.png", "2")
    assert "errors" not in result


def test_a_link_with_a_number_for_its_node_runs(worker: WorkerUnderTest) -> None:
    workflow = {
        "1": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
        "2": node("SaveImage", images=[1, "0"], filename_prefix="o"),
    }
    for sent in ({"workflow": workflow}, {"prompt": workflow}):
        assert len(worker.run(sent)["images"]) == 1


def test_a_node_that_reads_the_editor_s_workflow_gets_it_or_says_so(
    worker: WorkerUnderTest,
) -> None:
    request = {"workflow": {"1": node("TestReadGraph")}}
    graph = {"nodes": [{"id": 1}], "links": []}
    sent = worker.run({**request, "extra_data": {"extra_pnginfo": {"workflow": graph}}})
    assert sent["texts"] == [{"node_id": "1", "text": "1 nodes"}]

    failed = worker.run(request)
    assert failed["error_code"] == "EXECUTION_FAILED"
    assert "node 1 (TestReadGraph) reads the editor's workflow" in failed["error"]
    assert "`extra_data.extra_pnginfo.workflow`" in failed["error"]


def test_an_image_sequence_comes_whole_and_without_its_cover(worker: WorkerUnderTest) -> None:
    item = {**file_item("P_00001.%03d.png"), "format": "video/16bit-png", "frame_rate": 8}
    files = {f"P_00001.{number:03}.png": png((number, 0, 0)) for number in (1, 2, 3)}
    workflow = reporting(
        {"gifs": [{**item, "workflow": "P_00001.png"}]}, {**files, "P_00001.png": png((0, 0, 0))}
    )
    result = worker.run({"workflow": workflow})
    assert [image["filename"] for image in result["images"]] == sorted(files)
    assert {image["node_id"] for image in result["images"]} == {"1"}


def test_files_that_a_node_reports_by_their_whole_paths_are_its_own(
    worker: WorkerUnderTest,
) -> None:
    output, temp = worker.folders.output, worker.folders.temp
    saved = file_item("a.png", str(output / "sub"))
    shown = file_item(str(temp / "b.png"), folder_type="temp")
    preview = {f"{os.path.relpath(temp, output)}/b.png": png((9, 9, 9))}
    both = reporting({"images": [saved, shown]}, {"sub/a.png": png((9, 9, 9)), **preview})
    result = worker.run({"workflow": both, "output": {"previews": True}})
    names = [(f.get("subfolder"), f["filename"], f["node_id"]) for f in result["images"]]
    assert names == [("sub", "a.png", "1"), (None, "b.png", "1")]
    assert "errors" not in result

    result = worker.run({"workflow": reporting({"images": [shown]}, preview)})
    assert any("only previews (node 1)" in said for said in result["errors"])


def test_a_film_with_sound_comes_alone_and_with_what_lies_beside_it_on_request(
    worker: WorkerUnderTest,
) -> None:
    item = {**file_item("V_00001-audio.mp4"), "format": "video/h264-mp4", "frame_rate": 8}
    files = {"V_00001-audio.mp4": b"sound", "V_00001.mp4": b"silent", "V_00001.png": png((0, 0, 0))}
    beside = {"V_00001.txt": b"a caption of another node"}
    request = {
        "workflow": reporting({"gifs": [{**item, "workflow": "V_00001.png"}]}, {**files, **beside})
    }
    result = worker.run(request)
    assert [video["filename"] for video in result["videos"]] == ["V_00001-audio.mp4"]
    assert [file["filename"] for file in result["files"]] == ["V_00001.txt"]
    assert "images" not in result

    whole = worker.run({**request, "output": {"previews": True}})
    assert [video["filename"] for video in whole["videos"]] == ["V_00001-audio.mp4", "V_00001.mp4"]
    assert [image["filename"] for image in whole["images"]] == ["V_00001.png"]


def queue_as_a_node_does(worker: WorkerUnderTest, workflow: Workflow) -> None:
    """Queue a prompt under the websocket of the one that runs, as VideoHelperSuite's nodes do."""
    wait_until(lambda: worker.comfyui("/queue")["queue_running"])
    ((_, _, _, extra_data, *_),) = worker.comfyui("/queue")["queue_running"]
    worker.submit(workflow, client_id=extra_data["client_id"])


def test_a_prompt_that_a_node_has_queued_belongs_to_its_job(worker: WorkerUnderTest) -> None:
    slow = {"9": node("TestSleepOutput", seconds=2)}
    job = worker.start({"workflow": {**saved_image(0xFF0000), **slow}})
    queue_as_a_node_does(worker, saved_image(0x0000FF))
    queue_as_a_node_does(worker, saved_image(0x00FF00))
    images = [(image["filename"], color_of(image)) for image in job.result()["images"]]
    assert images == [
        ("result_00001_.png", (255, 0, 0)),
        ("result_00002_.png", (0, 0, 255)),
        ("result_00003_.png", (0, 255, 0)),
    ]


def test_a_cancelled_job_takes_back_what_its_nodes_have_queued(worker: WorkerUnderTest) -> None:
    slow = {"1": node("TestSleepOutput", seconds=20)}
    job = worker.start({"workflow": slow})
    queue_as_a_node_does(worker, {"1": node("TestSleepOutput", seconds=30)})
    job.cancel()
    assert job.was_cancelled()
