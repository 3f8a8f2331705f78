"""ComfyUI's API format: telling it from other things, and checking its shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker_comfyui.errors import InvalidRequest, InvalidWorkflow
from worker_comfyui.job import Workflow, understand_inputs
from worker_comfyui.request.problems import Problems
from worker_comfyui.request.shape import check_shape

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
    problems = Problems(InvalidRequest)
    check_shape(value, path, problems.add)
    if problems.details:
        raise problems.error()
    workflow = dict(value)
    understand_inputs(workflow)
    return workflow
