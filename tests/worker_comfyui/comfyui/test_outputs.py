from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_comfyui.comfyui.outputs import Outputs, collect, reporting_nodes
from worker_comfyui.media.output_file import OutputFile

TRANSCRIPTS = Path(__file__).parents[3] / "test_resources" / "comfyui" / "transcripts"
FOLDERS = {"output": Path("/comfy/output"), "temp": Path("/comfy/temp")}
PNG = {"filename": "a_00001_.png", "subfolder": "", "type": "output"}


def from_nodes(**nodes: Any) -> Outputs:
    """Collect from nodes `n1={...}`; their ids are `1`, ..."""
    outputs = {name.removeprefix("n"): output for name, output in nodes.items()}
    return collect({"outputs": outputs}, list(outputs))


def recorded(scenario: str) -> Outputs:
    """Collect from the history that a real ComfyUI 0.3.64 answered in a recorded scenario."""
    record = json.loads((TRANSCRIPTS / f"{scenario}.json").read_text())
    histories = [
        exchange["response"]["body"]
        for exchange in record["http"]
        if exchange["request"]["path"].startswith("/history/")
    ]
    entry = next(iter(histories[-1].values()))
    return collect(entry, list(entry["prompt"][2]))


def test_a_real_servers_outputs_are_all_found() -> None:
    found = recorded("other_outputs")
    kinds = {artifact.filename.rpartition(".")[2]: artifact.kind for artifact in found.artifacts}
    assert kinds == {
        "webp": "images",
        "png": "images",
        "webm": "videos",
        "mp4": "videos",
        "flac": "audio",
        "mp3": "audio",
        "latent": "files",
    }
    assert len(found.texts) == 1
    assert not found.problems


def test_a_real_servers_foreign_nodes_are_understood() -> None:
    found = recorded("custom_node_outputs")
    assert {artifact.name for artifact in found.artifacts if artifact.kind == "files"} == {
        "mesh/probe_721694012.glb",
        "probe_721694013.zip",
        "a/same.bin",
        "b/same.bin",
    }
    assert [artifact.filename for artifact in found.temporary] == [
        "probe.png",
        "tmp_721694014.gif",
    ]
    assert len(found.texts) == 4


def test_a_real_servers_lies_are_seen_through() -> None:
    found = recorded("lying_outputs")
    assert [artifact.filename for artifact in found.artifacts] == ["never_written_721694009.png"]
    assert [problem["node_id"] for problem in found.problems] == ["2", "2"]


def test_a_real_servers_previews_are_temporary() -> None:
    found = recorded("preview_only")
    assert found.artifacts == ()
    assert [artifact.folder_type for artifact in found.temporary] == ["temp"]


def test_every_kind_of_core_output_goes_to_its_list() -> None:
    def item(filename: str) -> dict[str, str]:
        return {"filename": filename, "subfolder": "", "type": "output"}

    found = from_nodes(
        n2={"images": [item("rec_00012_.webp")], "animated": [True]},
        n4={"images": [item("rec_00013_.webm")], "animated": [True]},
        n6={"images": [item("rec_00014_.mp4")], "animated": [True]},
        n8={"audio": [item("rec_00016_.flac")]},
        n11={"latents": [item("rec_00017_.latent")]},
        n12={"3d": [item("rec_00018_.glb")]},
        n13={"text": ["hello 273732"]},
    )
    assert [(a.node_id, a.kind, a.media_type) for a in found.artifacts] == [
        ("2", "images", "image/webp"),
        ("4", "videos", "video/webm"),
        ("6", "videos", "video/mp4"),
        ("8", "audio", "audio/flac"),
        ("11", "files", "application/octet-stream"),
        ("12", "files", "model/gltf-binary"),
    ]
    assert found.texts == ({"node_id": "13", "text": "hello 273732"},)
    assert not found.problems


def test_video_helper_suites_gifs_are_videos_or_images_by_what_they_are() -> None:
    found = from_nodes(
        n1={
            "gifs": [
                {
                    "filename": "probe_1.mp4",
                    "subfolder": "",
                    "type": "output",
                    "format": "video/h264-mp4",
                    "workflow": "probe.png",
                    "fullpath": "/comfyui/output/probe_1.mp4",
                },
                {"filename": "b.gif", "subfolder": "", "type": "output", "format": "image/gif"},
                {"filename": "c.nut", "subfolder": "", "type": "output", "format": "video/nut"},
            ]
        }
    )
    assert [(a.filename, a.kind) for a in found.artifacts] == [
        ("probe_1.mp4", "videos"),
        ("b.gif", "images"),
        ("c.nut", "videos"),
    ]


def test_a_file_of_unknown_extension_is_classed_by_its_key() -> None:
    found = from_nodes(
        n1={"images": [{"filename": "x.weird"}], "files": [{"filename": "y.weird"}]},
    )
    assert [(a.filename, a.kind, a.media_type) for a in found.artifacts] == [
        ("x.weird", "images", None),
        ("y.weird", "files", None),
    ]


def test_equal_names_in_two_folders_are_two_files() -> None:
    found = from_nodes(
        n7={
            "files": [
                {"filename": "same.bin", "subfolder": "a", "type": "output"},
                {"filename": "same.bin", "subfolder": "b", "type": "output"},
            ]
        }
    )
    assert [a.name for a in found.artifacts] == ["a/same.bin", "b/same.bin"]


def test_a_file_listed_twice_is_taken_once() -> None:
    found = from_nodes(
        n1={"images": [PNG, PNG], "files": [{**PNG, "subfolder": "./"}]}, n2={"images": [PNG]}
    )
    assert found.artifacts == (OutputFile("1", "images", "a_00001_.png", media_type="image/png"),)


def test_temporary_files_are_listed_apart_and_input_files_ignored() -> None:
    found = from_nodes(
        n3={"images": [{**PNG, "type": "temp"}]}, n4={"images": [{**PNG, "type": "input"}]}
    )
    assert found.artifacts == ()
    assert [(a.node_id, a.folder_type) for a in found.temporary] == [("3", "temp")]


def test_files_come_in_the_order_of_the_workflow_not_of_history() -> None:
    outputs = {node: {"images": [{"filename": f"{node}.png"}]} for node in ("9", "5.0.3", "2")}
    found = collect({"outputs": outputs}, ["2", "5", "9"])
    assert [a.node_id for a in found.artifacts] == ["2", "9", "5.0.3"]


def test_a_subgraphs_file_belongs_to_the_node_that_is_displayed() -> None:
    entry = {
        "outputs": {"9": {"images": [{"filename": "9.png"}]}, "5.0.3": {"images": [PNG]}},
        "meta": {"5.0.3": {"node_id": "5.0.3", "display_node": "5"}},
    }
    assert [a.node_id for a in collect(entry, ["5", "9"]).artifacts] == ["5", "9"]


def test_texts_and_numbers_are_collected() -> None:
    found = from_nodes(
        n2={"text": ["a caption", "seed 1"]},
        n3={"string": "bare", "float": [0.5], "int": (7,), "boolean": [True]},
    )
    assert [text["text"] for text in found.texts] == [
        "a caption",
        "seed 1",
        "bare",
        "0.5",
        "7",
        "true",
    ]


def test_flags_of_the_files_beside_them_are_no_outputs() -> None:
    found = from_nodes(
        n1={"animated": [True], "unfinished_batch": [True], "x": [None, {}]}, n2=None
    )
    assert found == Outputs()


def test_a_text_that_comfyui_took_for_a_list_of_characters_is_whole_again() -> None:
    found = from_nodes(n1={"text": list("64 x 48")}, n2={"text": ["a"]}, n3={"string": [""]})
    assert [text["text"] for text in found.texts] == ["64 x 48", "a", ""]


@pytest.mark.parametrize(
    ("output", "texts"),
    [
        ({"text": [["a cat", ["a dog"]], "bird"]}, ["a cat", "a dog", "bird"]),
        ({"value": [12]}, ["12"]),
        ({"prompts": ["one", "two"]}, ["one", "two"]),
        ({"tags": [{"name": "style", "text": "oil"}]}, ["oil"]),
        ({"result": ["mesh.glb", {"camera": 1}, None]}, ["mesh.glb", '{"camera": 1}']),
        ({"anything": "bare"}, ["bare"]),
        ({"bboxes": [[1.5, 2]]}, ["1.5", "2"]),
    ],
)
def test_texts_in_any_shape_come_back(output: dict[str, Any], texts: list[str]) -> None:
    assert [text["text"] for text in from_nodes(n1=output).texts] == texts


def test_a_named_text_keeps_its_name() -> None:
    found = from_nodes(n1={"tags": [{"name": "style", "text": "oil"}]})
    assert found.texts == ({"node_id": "1", "name": "style", "text": "oil"},)


def test_what_is_too_long_or_too_deep_to_be_a_text_is_told() -> None:
    deep: list[Any] = []
    for _ in range(40):
        deep = [deep, 7]
    found = from_nodes(n1={"bg_image": ["QUJD" * 5000]}, n2={"text": deep})
    assert [(p["node_id"], p["message"]) for p in found.problems] == [
        ("1", "reported 20000 characters under 'bg_image', which are not returned"),
        ("2", "reported a list nested too deep under 'text'"),
    ]


def test_a_backslash_is_a_character_of_a_name() -> None:
    found = from_nodes(n1={"images": [{"filename": "sub\\x_00001_.png", "subfolder": "a"}]})
    assert [a.name for a in found.artifacts] == ["a/sub\\x_00001_.png"]
    assert found.problems == ()


@pytest.mark.parametrize("cover", ["../clip.png", 7, None, ""])
def test_a_video_whose_cover_is_no_file_is_taken_all_the_same(cover: Any) -> None:
    found = from_nodes(n1={"gifs": [{"filename": "clip.mp4", "workflow": cover}]})
    assert [a.name for a in found.artifacts] == ["clip.mp4"]
    assert not found.temporary
    assert not found.problems


def test_the_picture_beside_a_video_is_only_shown() -> None:
    item = {"filename": "clip.mp4", "subfolder": "a", "type": "output", "workflow": "clip.png"}
    found = from_nodes(n1={"gifs": [{**item, "format": "video/h264-mp4"}]})
    assert [a.name for a in found.artifacts] == ["a/clip.mp4"]
    assert [(a.name, a.kind, a.node_id) for a in found.temporary] == [("a/clip.png", "images", "1")]


def test_the_film_before_it_had_sound_is_only_shown() -> None:
    item = {"filename": "clip_00001-audio.mp4", "subfolder": "a", "workflow": "clip_00001.png"}
    found = from_nodes(n1={"gifs": [{**item, "type": "output", "format": "video/h264-mp4"}]})
    assert [a.name for a in found.artifacts] == ["a/clip_00001-audio.mp4"]
    assert [(a.name, a.kind) for a in found.temporary] == [
        ("a/clip_00001.png", "images"),
        ("a/clip_00001.mp4", "videos"),
    ]


def test_a_film_that_another_node_reports_is_saved_and_not_shown() -> None:
    item = {"filename": "clip-audio.mp4", "type": "output", "workflow": "clip.png"}
    found = from_nodes(n1={"gifs": [item]}, n2={"gifs": [{"filename": "clip.mp4"}]})
    assert [a.name for a in found.artifacts] == ["clip-audio.mp4", "clip.mp4"]
    assert [a.name for a in found.temporary] == ["clip.png"]


def test_a_film_that_is_only_shown_is_shown_once() -> None:
    item = {"filename": "clip-audio.mp4", "type": "temp", "workflow": "clip.png"}
    found = from_nodes(n1={"gifs": [item]})
    assert [a.name for a in found.temporary] == ["clip-audio.mp4", "clip.png"]


def test_an_image_that_came_over_the_websocket_is_not_told_twice() -> None:
    item = {"source": "websocket", "content-type": "image/png", "type": "output"}
    assert from_nodes(n1={"images": [item]}) == Outputs()


def test_a_preview_with_a_wrong_name_never_fails_a_job() -> None:
    found = from_nodes(n1={"images": [{"filename": "/abs/x.png", "type": "temp"}]})
    assert found == Outputs()


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ({"filename": "/comfy/temp/x.png", "type": "temp"}, "x.png"),
        ({"filename": "x.png", "subfolder": "/comfy/output/a/b", "type": "output"}, "a/b/x.png"),
        ({"filename": "x.png", "subfolder": "/comfy/output"}, "x.png"),
    ],
)
def test_a_whole_path_within_its_folder_is_the_file_there(item: Any, name: str) -> None:
    entry = {"outputs": {"1": {"images": [item]}}}
    found = collect(entry, ["1"], FOLDERS)
    assert [file.name for file in (*found.artifacts, *found.temporary)] == [name]
    assert found.problems == ()


@pytest.mark.parametrize("path", ["/comfy/temp/x.png", "/comfy/output/../x.png", "/comfy/output"])
def test_a_whole_path_elsewhere_is_a_problem(path: str) -> None:
    entry = {"outputs": {"1": {"images": [{"filename": path, "type": "output"}]}}}
    found = collect(entry, ["1"], FOLDERS)
    assert found.artifacts == ()
    assert [problem["node_id"] for problem in found.problems] == ["1"]


@pytest.mark.parametrize(
    "item",
    [
        {"filename": "../../../../etc/passwd"},
        {"filename": "passwd", "subfolder": "../../../../etc"},
        {"filename": "passwd", "subfolder": "a/../../etc"},
        {"filename": "/etc/passwd"},
        {"filename": "passwd", "subfolder": "/etc"},
        {"filename": "a\0.png"},
        {"filename": "..\\..\\secret.png"},
        {"filename": "secret.png", "subfolder": "a\\.."},
        {"filename": "\\\\host\\share\\secret.png"},
        {"filename": "a\nHeader: x.png"},
        {"filename": "lone \ud800.png"},
        {"filename": ".."},
        {"filename": ""},
        {"filename": "folder/"},
        {"filename": None},
        {"filename": 7},
        {"filename": ["a.png"]},
        {"filename": "a.png", "subfolder": {"a": 1}},
        {"filename": "a.png", "type": "etc"},
        {"filename": "a.png", "type": ["output"]},
    ],
)
def test_a_name_that_cannot_be_one_is_a_problem_of_its_node(item: dict[str, Any]) -> None:
    found = from_nodes(n1={"images": [{"subfolder": "", "type": "output", **item}]})
    assert found.artifacts == found.temporary == ()
    (problem,) = found.problems
    assert problem["node_id"] == "1"
    assert "images" in problem["message"]
    json.dumps(problem, allow_nan=False).encode()


def test_a_problem_does_not_take_the_other_files_along() -> None:
    found = from_nodes(n1={"images": [{"filename": "../x.png"}, PNG]})
    assert [a.filename for a in found.artifacts] == ["a_00001_.png"]
    assert len(found.problems) == 1


def test_dots_inside_a_name_are_allowed() -> None:
    found = from_nodes(n1={"images": [{"filename": "v1..2.png", "subfolder": "..a"}]})
    assert [a.name for a in found.artifacts] == ["..a/v1..2.png"]


def test_a_folder_inside_the_filename_becomes_the_subfolder() -> None:
    found = from_nodes(n1={"images": [{"filename": "b/c.png", "subfolder": "a"}]})
    assert [(a.subfolder, a.filename) for a in found.artifacts] == [("a/b", "c.png")]


texts = st.text("a./\\\0\n\ud800é", max_size=6) | st.sampled_from(["output", "temp", "video/x"])
keys = st.sampled_from(["images", "text", "filename", "subfolder", "type", "format", "", "é"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
file_items = st.fixed_dictionaries(
    {"filename": json_values},
    optional={"subfolder": json_values, "type": json_values, "format": json_values},
)


@given(
    st.dictionaries(texts, st.dictionaries(keys, st.lists(file_items, max_size=3) | json_values))
    | json_values,
    json_values,
)
def test_nothing_that_a_node_reports_can_break_or_leave_its_folder(outputs: Any, meta: Any) -> None:
    found = collect({"outputs": outputs, "meta": meta}, ["1"])
    for artifact in found.artifacts + found.temporary:
        assert not artifact.name.startswith("/")
        assert ".." not in artifact.name.replace("\\", "/").split("/")
        assert "\0" not in artifact.name
        artifact.name.encode()
    json.dumps([text["text"] for text in found.texts], ensure_ascii=False).encode()
    json.dumps([problem["message"] for problem in found.problems], ensure_ascii=False).encode()


@pytest.mark.parametrize("outputs", [None, [], 5, "x"])
def test_an_entry_without_outputs_has_no_reporting_nodes(outputs: Any) -> None:
    assert reporting_nodes({"outputs": outputs}) == frozenset()
    assert reporting_nodes({"outputs": {"7": None}}) == {"7"}
