"""The inputs of a workflow that a person may want to set: for a page that makes a form of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from worker_comfyui.job import Workflow, is_link, title_of
from worker_comfyui.workflows.class_inputs import specs_of
from worker_comfyui.workflows.editor.node_classes import InputSpec

MAX_INPUTS = 2_000
MAX_CHOICES = 500


class FormInput(TypedDict, total=False):
    """One input, as `overrides` names it: `<node_id>.<input>`."""

    node_id: str
    class_type: str
    title: str
    input: str
    type: str
    value: Any
    min: float
    max: float
    step: float
    choices: list[Any]
    multiline: bool
    upload: str
    seed: bool


def form_of(workflow: Workflow, object_info: Mapping[str, Any]) -> list[FormInput]:
    """List the inputs that have a value of their own, in the workflow's order.

    Args:
        workflow: In the API format.
        object_info: Of the ComfyUI that runs it.
    """
    found: list[FormInput] = []
    for node_id, node in workflow.items():
        for one in _of_node(node_id, node, object_info):
            found.append(one)
            if len(found) == MAX_INPUTS:
                return found
    return found


def _of_node(
    node_id: str, node: dict[str, Any], object_info: Mapping[str, Any]
) -> Iterator[FormInput]:
    specs = specs_of(object_info.get(node["class_type"]) or {}, node["inputs"])
    title = title_of(node)
    for name, value in node["inputs"].items():
        if is_link(value) or name not in specs:
            continue
        one: FormInput = {
            "node_id": node_id,
            "class_type": node["class_type"],
            "input": name,
            "value": value,
        }
        if title:
            one["title"] = title
        yield _described(one, specs[name])


def _described(one: FormInput, spec: InputSpec) -> FormInput:
    one["type"] = spec.type
    options = spec.options
    for key in ("min", "max", "step"):
        if isinstance(options.get(key), int | float):
            one[key] = options[key]
    if spec.choices:
        one["choices"] = list(spec.choices)[:MAX_CHOICES]
    if options.get("multiline") is True:
        one["multiline"] = True
    uploads = [key for key, value in options.items() if key.endswith("_upload") and value]
    if uploads:
        one["upload"] = uploads[0].removesuffix("_upload")
    if spec.has_control:
        one["seed"] = True
    return one
