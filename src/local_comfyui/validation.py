"""Decides whether a prompt may run: pure, from the prompt and the node classes.

The types, texts and structures of the errors are those of ComfyUI 0.3.64 ``execution.py``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from local_comfyui.core_classes import about_missing
from local_comfyui.input_checks import Through, check_node
from local_comfyui.prompt import Json, NodeClasses, is_output_node

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Validation:
    """The verdict on a prompt."""

    outputs: list[str]
    """Output nodes that may run; empty when the prompt is refused."""
    error: Json | None = None
    node_errors: Json = field(default_factory=dict)


def validate(prompt: Json, classes: NodeClasses) -> Validation:
    """Check a prompt, and convert its constants in place (``"5"`` becomes 5).

    Raises:
        TypeError, IndexError: The prompt is not made of mappings; ComfyUI answers with status 500.
    """
    outputs: list[str] = []
    for node_id in prompt:  # the first wrong class is told, as ComfyUI does
        if "class_type" not in prompt[node_id]:
            message = "Cannot execute because a node is missing the class_type property."
            return Validation([], refusal("invalid_prompt", message, f"Node ID '#{node_id}'"))
        class_type = prompt[node_id]["class_type"]
        if class_type not in classes:
            message = f"Cannot execute because node {class_type} does not exist."
            hint, extra_info = about_missing(prompt, classes, class_type)
            details = f"Node ID '#{node_id}'{hint}"
            return Validation([], refusal("invalid_prompt", message, details, extra_info))
        if is_output_node(classes[class_type]):
            outputs.append(node_id)
    if not outputs:
        return Validation([], refusal("prompt_no_outputs", "Prompt has no outputs", ""))
    return _validate_outputs(prompt, classes, outputs)


def refusal(kind: str, message: str, details: str, extra_info: Json | None = None) -> Json:
    """An error in the structure that ComfyUI gives it."""
    return {"type": kind, "message": message, "details": details, "extra_info": extra_info or {}}


def _validate_outputs(prompt: Json, classes: NodeClasses, outputs: list[str]) -> Validation:
    graph = _Graph(prompt, classes)
    good: list[str] = []
    on_outputs: list[str] = []
    node_errors: Json = {}
    for output in outputs:
        if graph.is_valid(output):
            good.append(output)
            continue
        on_outputs += [f"{each['message']}: {each['details']}" for each in graph.errors[output]]
        _log.error("Failed to validate prompt for output %s, which will be ignored", output)
        for node_id, errors in graph.errors.items():
            # A node that is invalid only by what stands before it carries no errors of its own.
            if errors:
                class_type = prompt[node_id]["class_type"]
                first = {"errors": errors, "dependent_outputs": [], "class_type": class_type}
                node_errors.setdefault(node_id, first)["dependent_outputs"].append(output)
                _log.error("* %s %s: %s", class_type, node_id, [each["details"] for each in errors])
    if good:
        return Validation(good, None, node_errors)
    message = "Prompt outputs failed validation"
    error = refusal("prompt_outputs_failed_validation", message, "\n".join(on_outputs))
    return Validation([], error, node_errors)


class _Graph:
    """Walks from the output nodes upstream; without recursion, so depth is no limit."""

    def __init__(self, prompt: Json, classes: NodeClasses) -> None:
        self.errors: dict[str, list[Json]] = {}
        """Each node that was reached so far, with the errors of its own."""
        self._links: dict[str, list[Through]] = {}
        self._prompt = prompt
        self._classes = classes

    def is_valid(self, output: str) -> bool:
        """Whether an output node and everything it needs is in order."""
        reached: dict[str, list[str]] = {}
        stack: list[tuple[str, Through | None]] = [(output, None)]
        while stack:
            node_id, through = stack.pop()
            if node_id in reached:
                continue
            if node_id not in self.errors:
                found = check_node(node_id, self._prompt, self._classes, through)
                self.errors[node_id], self._links[node_id] = found
            stack.extend((each[1][0], each) for each in reversed(self._links[node_id]))
            reached[node_id] = [link[0] for _, link in self._links[node_id]]
        try:
            TopologicalSorter(reached).prepare()
        except CycleError:  # invalid, but at 0.3.64 without an error of its own
            return False
        return not any(self.errors[node_id] for node_id in reached)
