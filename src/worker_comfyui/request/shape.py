"""The shape of a workflow in ComfyUI's API format: what stands in it, and what JSON can carry."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from worker_comfyui.request.problems import kind_of
from worker_comfyui.wording import cut

MAX_NESTING = 64
"""Levels of lists and objects; ComfyUI's own reader of JSON ends not far above."""

_EXPORTED = (
    "which every node of an API export has: send the editor's own file (File → Save), or export it "
    "again with File → Export (API)"
)

Add = Callable[[str, str], None]
"""Takes a problem: its path in the request, and what is wrong there."""


def check_shape(workflow: Mapping[str, Any], path: str, add: Add) -> None:
    """Find what is wrong with the nodes, and, if nothing is, with their values.

    Args:
        workflow: An object.
        path: Where it stands in the request.
        add: Takes each problem.
    """
    is_sound = True
    for node_id, node in workflow.items():
        for place, message in _of_node(node):
            is_sound = False
            add(f"{path}.{cut(node_id)}{place}", message)
    if is_sound:
        _check_values(workflow, path, add)


def _of_node(node: Any) -> list[tuple[str, str]]:
    if not isinstance(node, dict):
        return [("", f"must be an object with `class_type` and `inputs`, not {kind_of(node)}")]
    found = []
    class_type = node.get("class_type")
    if not isinstance(class_type, str) or not class_type:
        found.append((".class_type", f"must be the name of a node class, {_EXPORTED}"))
    if not isinstance(node.get("inputs"), dict):
        found.append((".inputs", "must be an object (empty if the node has no inputs)"))
    return found


def _check_values(workflow: Mapping[str, Any], path: str, add: Add) -> None:
    """Find what JSON cannot carry to ComfyUI: NaN, infinity, nesting without end."""
    # Paths are made for problems only: a long key above many values would be copied for each.
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), workflow)]
    while stack:
        above, container = stack.pop()
        for key, value in (
            container.items() if isinstance(container, Mapping) else enumerate(container)
        ):
            if isinstance(value, float) and not math.isfinite(value):
                add(_joined(path, *above, key), f"must be a finite number, not {value}")
            elif isinstance(value, (dict, list)):
                if len(above) + 1 == MAX_NESTING:
                    message = f"is nested more than {MAX_NESTING} levels deep"
                    add(_joined(path, *above, key), message)
                    return
                stack.append(((*above, key), value))


def _joined(path: str, *keys: str | int) -> str:
    return ".".join((path, *(cut(key) for key in keys)))
