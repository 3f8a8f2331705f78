"""ComfyUI's API format: telling it from other things, and checking its shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from worker_comfyui.errors import InvalidWorkflow
from worker_comfyui.job import Workflow, understand_links
from worker_comfyui.wording import cut
from worker_comfyui.workflows.problems import Problems

MAX_NESTING = 64
"""Levels of lists and objects; ComfyUI's own reader of JSON ends not far above."""

EXPORT = InvalidWorkflow.hint


def is_api_format(value: Any) -> bool:
    """Tell whether JSON is meant as the API format: an object of nodes with classes."""
    return isinstance(value, Mapping) and any(
        isinstance(node, Mapping) and "class_type" in node for node in value.values()
    )


def checked(value: Mapping[str, Any], path: str) -> Workflow:
    """Check the shape of every node and that JSON can carry every value.

    Raises:
        InvalidRequest: with all problems, each with its path.
    """
    problems = Problems()
    for node_id, node in value.items():
        _check_node(f"{path}.{cut(node_id)}", node, problems)
    if not problems.details:
        _check_values(value, path, problems)
    if problems.details:
        raise problems.error()
    workflow = dict(value)
    understand_links(workflow)
    return workflow


def _check_node(path: str, node: Any, problems: Problems) -> None:
    if not isinstance(node, Mapping):
        message = f"must be an object with `class_type` and `inputs`, not {kind(node)}"
        problems.add({"path": path, "message": message})
        return
    class_type = node.get("class_type")
    if not isinstance(class_type, str) or not class_type:
        message = "must be the name of a node class"
        problems.add({"path": f"{path}.class_type", "message": message})
    if not isinstance(node.get("inputs"), dict):
        message = "must be an object (empty if the node has no inputs)"
        problems.add({"path": f"{path}.inputs", "message": message})


def _check_values(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    """Find what JSON cannot carry to ComfyUI: NaN, infinity, nesting without end."""
    stack: list[tuple[tuple[str, ...], Any]] = [((path,), value)]
    while stack:
        above, holder = stack.pop()
        for key, item in holder.items() if isinstance(holder, Mapping) else enumerate(holder):
            if isinstance(item, float) and not math.isfinite(item):
                message = f"must be a finite number, not {item}"
                problems.add({"path": ".".join((*above, cut(key))), "message": message})
            elif isinstance(item, dict | list):
                if len(above) == MAX_NESTING:
                    message = f"is nested more than {MAX_NESTING} levels deep"
                    problems.add({"path": ".".join((*above, cut(key))), "message": message})
                    return
                stack.append(((*above, cut(key)), item))


def kind(value: Any) -> str:
    """Name the JSON type of a value."""
    names = {bool: "a boolean", str: "a text", int: "a number", float: "a number", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")
