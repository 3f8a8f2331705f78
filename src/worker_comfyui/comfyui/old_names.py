"""Old names of node classes, and what ComfyUI runs in their place.

A newer ComfyUI takes a workflow with a class's old name and puts the class of today there (0.33
app/node_replace_manager.py). The worker does it itself, before: what it does for a node (output
nodes run in every job, its files are the job's, its problems are explained) follows from its
class. ComfyUI 0.33 also loses all inputs of a class that has only another name now, and fails for
a node without `_meta`.

Shapes: GET /node_replacements of ComfyUI 0.33 (comfy_api/latest/_io.py, NodeReplace), recorded in
test_resources/comfyui/node_replacements.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from worker_comfyui.comfyui.entry import mapping
from worker_comfyui.job import Workflow, is_link

_ANY_SOCKET: tuple[str, dict[str, Any]] = ("*", {})
_ANY_VALUE: tuple[str, dict[str, Any]] = ("STRING", {})


@dataclass(frozen=True, slots=True)
class Replacement:
    """What stands for a class that is no more.

    Attributes:
        class_type: The class of today.
        inputs: Its inputs by name, as `{"old_id": name}` or `{"set_value": value}`; None: as they
            were.
        outputs: Where an old output is now, by number; one that is not here is where it was.
        widgets: Old names of the inputs that have a value in the editor's file, in its order.
    """

    class_type: str
    inputs: Mapping[str, Mapping[str, Any]] | None
    outputs: Mapping[int, int]
    widgets: tuple[str, ...]


Replacements = Mapping[str, Replacement]
"""By the old name."""


def read(answer: Mapping[str, Any]) -> dict[str, Replacement]:
    """Read an answer of GET /node_replacements; ComfyUI takes the first of several for a name."""
    found = {}
    for old_name, listed in answer.items():
        first = listed[0] if isinstance(listed, list) and listed else None
        if isinstance(first, dict) and isinstance(first.get("new_node_id"), str):
            found[old_name] = _replacement(first)
    return found


def _replacement(entry: Mapping[str, Any]) -> Replacement:
    inputs = None
    if isinstance(entry.get("input_mapping"), list):
        inputs = {
            one["new_id"]: one
            for one in _objects(entry, "input_mapping")
            if isinstance(one.get("new_id"), str) and isinstance(one.get("old_id", ""), str)
        }
    outputs = {
        one["old_idx"]: one["new_idx"]
        for one in _objects(entry, "output_mapping")
        if isinstance(one.get("old_idx"), int) and isinstance(one.get("new_idx"), int)
    }
    widgets = entry.get("old_widget_ids")
    names = widgets if isinstance(widgets, list) else ()
    return Replacement(entry["new_node_id"], inputs, outputs, tuple(map(str, names)))


def _objects(entry: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = entry.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def replaced(workflow: Workflow, replacements: Replacements) -> Workflow:
    """Return the workflow with the classes of today in place of these; it stays as it is."""
    return {
        node_id: {
            **node,
            "class_type": now.class_type if now else node["class_type"],
            "inputs": dict(_inputs(_relinked(node["inputs"], workflow, replacements), now)),
        }
        for node_id, node in workflow.items()
        for now in (replacements.get(node["class_type"]),)
    }


def _relinked(
    inputs: Mapping[str, Any], workflow: Workflow, replacements: Replacements
) -> dict[str, Any]:
    """Let links to replaced nodes lead to where the outputs are now."""
    linked = dict(inputs)
    for name, value in inputs.items():
        source = workflow.get(value[0]) if is_link(value) else None
        now = replacements.get(source["class_type"]) if source else None
        if now:
            linked[name] = [value[0], now.outputs.get(value[1], value[1])]
    return linked


def _inputs(inputs: Mapping[str, Any], now: Replacement | None) -> Iterator[tuple[str, Any]]:
    if now is None or now.inputs is None:
        yield from inputs.items()
        return
    for name, origin in now.inputs.items():
        if "set_value" in origin:
            yield name, origin["set_value"]
        elif origin.get("old_id") in inputs:
            yield name, inputs[origin["old_id"]]


def with_old_names(object_info: Mapping[str, Any], replacements: Replacements) -> Mapping[str, Any]:
    """Describe classes under their old names too, so that the editor's files can be read.

    Args:
        object_info: Of ComfyUI, which does not describe them.
        replacements: Of the same ComfyUI.
    """
    old = {
        name: _as_it_was(object_info[now.class_type], now)
        for name, now in replacements.items()
        if name not in object_info and isinstance(object_info.get(now.class_type), dict)
    }
    return {**object_info, **old} if old else object_info


def _as_it_was(description: dict[str, Any], now: Replacement) -> dict[str, Any]:
    """Describe an old class, as far as its file's values and links need it."""
    if now.inputs is None:
        return description
    groups = mapping(description.get("input"))
    today = {**mapping(groups.get("required")), **mapping(groups.get("optional"))}
    # An input inside a dynamic one (`images.image0`) is not described by its own name.
    old = {
        origin["old_id"]: today.get(
            name, _ANY_VALUE if origin["old_id"] in now.widgets else _ANY_SOCKET
        )
        for name, origin in now.inputs.items()
        if isinstance(origin.get("old_id"), str)
    }
    order = list(dict.fromkeys([*(name for name in now.widgets if name in old), *old]))
    return {**description, "input": {"required": old}, "input_order": {"required": order}}
