"""Inputs that a file has otherwise than the class of today."""

from __future__ import annotations

from typing import Any

import pytest

from tests.worker_comfyui.workflows.graphs import Json, graph, inner_link, node, subgraph
from tests.worker_comfyui.workflows.pairs import circumstances, object_info
from worker_comfyui.errors import InvalidRequest
from worker_comfyui.job import Workflow
from worker_comfyui.workflows.editor.convert import convert

JOIN: Json = {
    "input": {
        "required": {"text": ["STRING", {"forceInput": True}]},
        "optional": {"times": ["INT", {"forceInput": True}], "image": ["IMAGE"]},
    },
    "output": ["STRING"],
}


def run(file: Json) -> Workflow:
    return convert(file, {**object_info(), "Join": JOIN}, circumstances()).workflow


def picture(*inputs: Json, definition: Json | None = None) -> Json:
    """Make a file in which a picture goes into one node."""
    target = node(2, definition["id"] if definition else "ImageInvert", gives=("IMAGE",))
    return graph(
        node(1, "EmptyImage", 64, 64, 1, 0, gives=("IMAGE",)),
        {**target, "inputs": list(inputs)},
        node(3, "PreviewImage", links={"images": 2}, gives=()),
        links=[[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]],
        definitions={"subgraphs": [definition] if definition else []},
    )


TWICE = [{"name": "image", "type": "IMAGE", "link": link} for link in (1, None)]


@pytest.mark.parametrize("inputs", [TWICE, TWICE[::-1]], ids=["linked first", "linked last"])
def test_of_an_input_that_the_file_lists_twice_the_linked_one_counts(inputs: list[Json]) -> None:
    assert run(picture(*inputs))["2"]["inputs"] == {"image": ["1", 0]}


@pytest.mark.parametrize("inputs", [TWICE, TWICE[::-1]], ids=["linked first", "linked last"])
def test_so_it_does_for_a_subgraph(inputs: list[Json]) -> None:
    inverts = subgraph(
        "5b8b9a6e-0000-4000-8000-000000000001",
        node(7, "ImageInvert", links={"image": 1}, gives=("IMAGE",)),
        links=[inner_link(1, (-10, 0), (7, 0)), inner_link(2, (7, 0), (-20, 0))],
        inputs=[{"id": "a", "name": "image", "type": "IMAGE", "linkIds": [1]}],
        outputs=[{"id": "b", "name": "IMAGE", "type": "IMAGE", "linkIds": [2]}],
    )
    assert run(picture(*inputs, definition=inverts))["2:7"]["inputs"] == {"image": ["1", 0]}


def primitive(kind: str, value: Any, target: str) -> Json:
    """Make a file in which a primitive leads to a socket, by way of a Reroute."""
    return graph(
        node(1, "PrimitiveNode", value, "fixed", gives=(kind,)),
        node(2, "Reroute", links={"": 1}, gives=(kind,)),
        node(3, "Join", links={target: 2}, gives=("STRING",)),
        links=[[1, 1, 0, 2, 0, kind], [2, 2, 0, 3, 0, kind]],
    )


@pytest.mark.parametrize(
    ("kind", "value", "target"), [("STRING", "a", "text"), ("INT", 3, "times")]
)
def test_a_primitive_gives_its_value_to_what_was_a_widget_once(
    kind: str, value: Any, target: str
) -> None:
    assert run(primitive(kind, value, target))["3"]["inputs"] == {target: value}


@pytest.mark.parametrize(
    ("kind", "value", "target"),
    [
        ("STRING", 3, "text"),
        ("INT", True, "times"),
        ("INT", None, "times"),
        ("IMAGE", "a", "image"),
    ],
)
def test_but_not_one_of_another_kind(kind: str, value: Any, target: str) -> None:
    assert run(primitive(kind, value, target))["3"]["inputs"] == {}


def limited(kind: str, value: Any, **options: Any) -> Any:
    """Give the value that a primitive writes into an input with these options."""
    class_ = {"input": {"required": {"amount": [kind, options]}}, "output": ["INT"]}
    inputs = [{"name": "amount", "type": kind, "link": 1, "widget": {"name": "amount"}}]
    primitive = node(1, "PrimitiveNode", value, "fixed", gives=(kind,))
    primitive["outputs"][0]["links"] = [1]
    file = graph(
        primitive,
        {**node(2, "Limited", value), "inputs": inputs},
        links=[[1, 1, 0, 2, 0, kind]],
    )
    return convert(file, {"Limited": class_}, circumstances()).workflow["2"]["inputs"]["amount"]


@pytest.mark.parametrize("kind", ["INT", "FLOAT"])
@pytest.mark.parametrize("key", ["min", "max", "step", "round"])
@pytest.mark.parametrize(
    "odd", [[], {}, "x", "", float("nan"), float("inf"), -float("inf"), 10**400, True, 0]
)
def test_a_limit_that_is_no_number_limits_nothing_or_little(kind: str, key: str, odd: Any) -> None:
    assert isinstance(limited(kind, 1, **{key: odd}), int | float)


@pytest.mark.parametrize(("text", "expected"), [("4", 4), ("4.0", 4), ("5000", 3000)])
def test_a_limit_that_is_a_text_counts_as_its_number(text: str, expected: int) -> None:
    assert limited("INT", 3000, max=text) == expected


VIDEO: Json = {
    "input": {
        "required": {
            "video": [["a.mp4"]],
            "force_rate": ["FLOAT", {"default": 0}],
            "custom_width": ["INT", {"default": 0}],
            "custom_height": ["INT", {"default": 0}],
            "frame_load_cap": ["INT", {"default": 0}],
            "skip_first_frames": ["INT", {"default": 0}],
            "select_every_nth": ["INT", {"default": 1}],
        }
    },
    "output": ["IMAGE"],
}
IMAGES: Json = {
    "input": {
        "required": {"directory": [["a"]]},
        "optional": {
            "image_load_cap": ["INT", {"default": 0}],
            "skip_first_images": ["INT", {"default": 0}],
            "select_every_nth": ["INT", {"default": 1}],
        },
    },
    "output": ["IMAGE"],
}


@pytest.mark.parametrize(
    ("class_type", "stored", "expected"),
    [
        ("VHS_LoadVideo", ["a.mp4", 24, "Disabled", 90, 5, "video"], 1),
        ("VHS_LoadVideo", ["a.mp4", 24, "Disabled", 90, 5, 2, "video"], 2),
        ("VHS_LoadImages", ["b", "directory", 90, 5, 3], 3),
    ],
)
def test_buttons_in_the_lists_of_old_video_nodes_are_no_values(
    class_type: str, stored: list[Any], expected: int
) -> None:
    file = graph(node(1, class_type, *stored, gives=("IMAGE",)))
    classes = {"VHS_LoadVideo": VIDEO, "VHS_LoadImages": IMAGES}
    inputs = convert(file, classes, circumstances()).workflow["1"]["inputs"]
    assert inputs["select_every_nth"] == expected
    assert (inputs.get("frame_load_cap") or inputs.get("image_load_cap")) == 90
    assert (inputs.get("skip_first_frames") or inputs.get("skip_first_images")) == 5
    assert (inputs.get("video") or inputs.get("directory")) == stored[0]


@pytest.mark.parametrize("forced", [[], {}, 5, None, True])
def test_a_size_that_is_no_text_is_passed_over(forced: Any) -> None:
    file = graph(node(1, "VHS_LoadVideo", "a.mp4", 24, forced, 90, 5, 2, "video", gives=("IMAGE",)))
    inputs = convert(file, {"VHS_LoadVideo": VIDEO}, circumstances()).workflow["1"]["inputs"]
    assert inputs["frame_load_cap"] == 90
    assert inputs["select_every_nth"] == 2


@pytest.mark.parametrize("chosen", [[], {}, 5, None])
def test_a_format_that_is_no_text_brings_no_widgets(chosen: Any) -> None:
    formats = {"video/h264-mp4": [["crf", "INT", {"default": 19}]]}
    class_ = {
        "input": {"required": {"format": [["video/h264-mp4"], {"formats": formats}]}},
        "output": [],
    }
    file = graph(node(1, "VHS_VideoCombine", gives=(), widgets_values={"format": chosen}))
    inputs = convert(file, {"VHS_VideoCombine": class_}, circumstances()).workflow["1"]["inputs"]
    assert "crf" not in inputs


@pytest.mark.parametrize("mode", [float("nan"), float("inf"), -float("inf"), "4", []])
def test_a_mode_that_is_no_number_is_refused_where_it_stands(mode: Any) -> None:
    file = graph(node(1, "VHS_LoadVideo", gives=(), mode=mode))
    with pytest.raises(InvalidRequest) as caught:
        convert(file, {"VHS_LoadVideo": VIDEO}, circumstances())
    assert caught.value.details[0]["path"] == "workflow.nodes[0].mode"


def test_the_size_that_an_animatediff_node_stores_does_not_shift_its_values() -> None:
    class_ = {
        "input": {
            "required": {"offset": ["INT", {"default": 0}]},
            "optional": {
                "seed_override": ["INT", {"forceInput": True}],
                "adapt": ["BOOLEAN", {"default": False}],
            },
        },
        "output": [],
    }
    file = graph(node(1, "ADE_Settings", 3, 0, True, "", gives=()))
    workflow = convert(file, {"ADE_Settings": class_}, circumstances()).workflow
    assert workflow["1"]["inputs"] == {"offset": 3, "adapt": True}
