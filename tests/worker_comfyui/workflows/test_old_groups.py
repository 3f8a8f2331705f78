"""Group nodes of files that are older than the classes in them, and than the subgraphs of today."""

from __future__ import annotations

from typing import Any

import pytest

from tests.worker_comfyui.workflows.graphs import Json, graph, node
from tests.worker_comfyui.workflows.pairs import circumstances, object_info
from worker_comfyui.errors import InvalidRequest
from worker_comfyui.workflows.editor.convert import Conversion, convert

REROUTE: Json = {
    "type": "Reroute",
    "inputs": [{"name": "", "type": "*"}],
    "outputs": [{"name": "", "type": "*"}],
}


def member(type_: str, *values: Any, **inputs: str) -> Json:
    """Make a node as a group has it: without an id, its links elsewhere."""
    slots = [{"name": name, "type": kind} for name, kind in inputs.items()]
    made: Json = {"type": type_, "inputs": slots, "outputs": [{"name": "IMAGE", "type": "IMAGE"}]}
    return made | ({"widgets_values": list(values)} if values else {})


def run(group: Json, *values: Any, takes: str = "image") -> Conversion:
    """Convert a file in which a group gets a picture and gives one."""
    file = graph(
        node(1, "EmptyImage", 64, 64, 1, 0, gives=("IMAGE",)),
        node(2, "workflow/g", *values, links={takes: 1}, gives=("IMAGE",)),
        node(3, "PreviewImage", links={"images": 2}, gives=()),
        links=[[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]],
        last_node_id=3,
        extra={"groupNodes": {"g": {"external": []} | group}},
    )
    return convert(file, object_info(), circumstances())


def rerouted(**config: Any) -> Json:
    """A Reroute that brings a picture into the group; what it carries, only its target says."""
    nodes = [REROUTE, member("ImageInvert", image="IMAGE")]
    return {"nodes": nodes, "links": [[0, 0, 1, 0, 9, "IMAGE"]], "config": {"0": config}}


def test_a_reroute_names_its_input_after_what_it_leads_to() -> None:
    workflow = run(rerouted(), takes="IMAGE").workflow
    (invert,) = [one for one in workflow.values() if one["class_type"] == "ImageInvert"]
    assert invert["inputs"] == {"image": ["1", 0]}


def test_the_input_of_a_reroute_has_the_name_that_its_group_gave_it() -> None:
    workflow = run(rerouted(input={"IMAGE": {"name": "picture"}}), takes="picture").workflow
    (invert,) = [one for one in workflow.values() if one["class_type"] == "ImageInvert"]
    assert invert["inputs"] == {"image": ["1", 0]}


def test_the_input_of_a_reroute_may_be_hidden() -> None:
    with pytest.raises(InvalidRequest, match="no such input"):
        run(rerouted(input={"IMAGE": {"visible": False}}), takes="IMAGE")


@pytest.mark.parametrize(
    "more",
    [{"links": [[None, 0, 0, 0, 9, "IMAGE"]]}, {"links": [], "external": [[0, 0, "IMAGE"]]}],
    ids=["by what came in", "by what goes out"],
)
def test_a_reroute_that_is_all_of_a_group_is_named_by_its_ends(more: Json) -> None:
    workflow = run({"nodes": [REROUTE], **more}, takes="IMAGE").workflow
    assert workflow["3"]["inputs"] == {"images": ["1", 0]}


def test_a_widget_that_came_after_the_group_takes_none_of_its_values() -> None:
    # ImageScaleToTotalPixels had two widgets; `resolution_steps` came later.
    scale = member("ImageScaleToTotalPixels", "area", 1.0, image="IMAGE")
    blur = member("ImageBlur", 1, 1.0, image="IMAGE")
    group = {"nodes": [scale, blur], "links": [[0, 0, 1, 0, 9, "IMAGE"]]}
    workflow = run(group, "lanczos", 0.5, 7, 2.5).workflow
    inputs = {one["class_type"]: one["inputs"] for one in workflow.values()}
    assert inputs["ImageScaleToTotalPixels"] == {
        "image": ["1", 0],
        "upscale_method": "lanczos",
        "megapixels": 0.5,
        "resolution_steps": 1,
    }
    assert (inputs["ImageBlur"]["blur_radius"], inputs["ImageBlur"]["sigma"]) == (7, 2.5)


def test_a_group_with_a_class_that_is_missing_says_so() -> None:
    nodes = [member("NoSuchClass", image="IMAGE"), member("ImageInvert", image="IMAGE")]
    conversion = run({"nodes": nodes, "links": [[0, 0, 1, 0, 9, "IMAGE"]]})
    (problem,) = conversion.problems.details
    assert problem["class_type"] == "NoSuchClass"
    assert "has no class" in problem["message"]
