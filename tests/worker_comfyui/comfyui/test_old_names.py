"""Old names of node classes, with what ComfyUI 0.33 says of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.workflows import node
from worker_comfyui.comfyui import old_names
from worker_comfyui.comfyui.node_classes import MAX_UNKNOWN, NodeClasses
from worker_comfyui.workflows.resolve import resolve

ROOT = Path(__file__).resolve().parents[3]
ANSWER: dict[str, Any] = json.loads(
    (ROOT / "test_resources/comfyui/node_replacements.json").read_text()
)
REPLACEMENTS = old_names.read(ANSWER)
TODAY = {
    "ImageScaleToMaxDimension": {
        "input": {
            "required": {
                "image": ["IMAGE"],
                "upscale_method": [["area", "lanczos"]],
                "largest_size": ["INT", {"default": 512}],
            }
        },
        "input_order": {"required": ["image", "upscale_method", "largest_size"]},
        "output": ["IMAGE"],
    },
    "ControlNetLoader": {
        "input": {"required": {"control_net_name": [["a.safetensors", "b.safetensors"]]}},
        "output": ["CONTROL_NET"],
    },
    "ResizeImageMaskNode": {"input": {"required": {"input": ["*"], "scale_method": [["area"]]}}},
    "ConditioningAverage": {
        "input": {"required": {"conditioning_to_strength": ["FLOAT", {"default": 1.0}]}},
        "output": ["CONDITIONING"],
    },
    "PreviewAny": {"input": {"required": {"source": ["*"]}}, "output": [], "output_node": True},
}


def today(class_type: str, **inputs: Any) -> dict[str, Any]:
    return old_names.replaced({"1": node(class_type, **inputs)}, REPLACEMENTS)["1"]


def test_inputs_have_the_names_and_values_of_today() -> None:
    assert today("ResizeImagesByLongerEdge", images=["2", 0], longer_edge=640) == node(
        "ImageScaleToMaxDimension", image=["2", 0], largest_size=640, upscale_method="lanczos"
    )
    assert today("ImageBatch", image1=["2", 0], image2=["3", 0]) == node(
        "BatchImagesNode", **{"images.image0": ["2", 0], "images.image1": ["3", 0]}
    )


def test_an_input_that_was_not_sent_is_not_made_up() -> None:
    assert today("T2IAdapterLoader") == node("ControlNetLoader")


def test_a_class_that_has_another_name_alone_keeps_its_inputs_and_its_title() -> None:
    old = {**node("ConditioningAverage ", conditioning_to=["2", 0]), "_meta": {"title": "Mix"}}
    assert old_names.replaced({"1": old}, REPLACEMENTS) == {
        "1": {**old, "class_type": "ConditioningAverage"}
    }


def test_links_lead_to_where_the_output_is_now() -> None:
    replacements = old_names.read(
        {"Old": [{"new_node_id": "New", "output_mapping": [{"old_idx": 0, "new_idx": 2}]}]}
    )
    workflow = {"1": node("Old"), "2": node("PreviewAny", source=["1", 0], other=["1", 1])}
    replaced = old_names.replaced(workflow, replacements)
    assert replaced["2"]["inputs"] == {"source": ["1", 2], "other": ["1", 1]}
    assert workflow["2"]["inputs"]["source"] == ["1", 0]


@pytest.mark.parametrize(
    "entry",
    [
        *[None, [], [3], [{}], [{"new_node_id": 3}], {"new_node_id": "New"}],
        [{"new_node_id": "New", "input_mapping": [3, {}, {"new_id": "a"}], "output_mapping": 7}],
        [{"new_node_id": "New", "output_mapping": [{"old_idx": "x"}], "old_widget_ids": 3}],
        [{"new_node_id": "New", "input_mapping": [{"new_id": []}, {"new_id": "a", "old_id": {}}]}],
    ],
)
def test_an_answer_of_another_shape_replaces_nothing_or_what_it_can(entry: Any) -> None:
    workflow = {"1": node("Old", a=1), "2": node("PreviewAny", source=["1", 0])}
    replaced = old_names.replaced(workflow, old_names.read({"Old": entry}))
    assert replaced["1"]["class_type"] in {"Old", "New"}
    assert replaced["2"] == workflow["2"]


def classes(**more: Any) -> NodeClasses:
    return NodeClasses({**TODAY, **more}.get, lambda: ANSWER)


def test_a_class_that_is_here_is_not_replaced() -> None:
    workflow = {"1": node("T2IAdapterLoader", t2i_adapter_name="a.safetensors")}
    here: dict[str, Any] = {"input": {}, "output": []}
    assert classes(T2IAdapterLoader=here).of_today(workflow) == workflow
    assert classes().of_today(workflow)["1"]["class_type"] == "ControlNetLoader"


def test_a_class_is_not_replaced_by_one_that_is_not_here_either() -> None:
    workflow = {"1": node("Load3DAnimation", model_file="a.glb")}
    assert classes().of_today(workflow) == workflow


def test_output_nodes_are_known_beside_a_class_that_is_unknown() -> None:
    workflow = {"1": node("Unknown"), "2": node("PreviewAny", source=["1", 0])}
    assert classes().output_nodes(workflow) == ["2"]


def test_nobody_asks_for_thousands_of_made_up_classes() -> None:
    asked: list[str] = []
    workflow = {str(number): node(f"Made up {number}") for number in range(5000)}
    classes = NodeClasses(asked.append, dict)
    assert classes.output_nodes(classes.of_today(workflow)) == []
    assert len(asked) == MAX_UNKNOWN + 1


@pytest.mark.parametrize(
    ("old", "values", "runs"),
    [
        ("T2IAdapterLoader", ["b.safetensors"], {"t2i_adapter_name": "b.safetensors"}),
        ("ResizeImagesByLongerEdge", [640], {"longer_edge": 640}),
        ("ImageScaleBy", ["area", 1.5], {"upscale_method": "area", "scale_by": 1.5}),
        ("ConditioningAverage ", [0.25], {"conditioning_to_strength": 0.25}),
    ],
)
def test_a_file_of_the_editor_with_an_old_name_is_converted(
    old: str, values: list[Any], runs: dict[str, Any]
) -> None:
    info = old_names.with_old_names(TODAY, REPLACEMENTS)
    outputs = [{"name": "out", "type": "*", "links": [1]}]
    file = {
        "version": 0.4,
        "nodes": [
            {"id": 1, "type": old, "outputs": outputs, "widgets_values": values},
            {"id": 2, "type": "PreviewAny", "inputs": [{"name": "source", "type": "*", "link": 1}]},
        ],
        "links": [[1, 1, 0, 2, 0, "*"]],
    }
    workflow = resolve(file, lambda: info).workflow
    assert workflow["1"]["class_type"] == old
    assert workflow["1"]["inputs"] == runs
    assert workflow["2"]["inputs"] == {"source": ["1", 0]}
