"""Decides whether a prompt may run: pure, from the prompt and the node classes.

The types, texts and structures of the errors are those of ComfyUI 0.3.64 ``execution.py``.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from local_comfyui.execution_blocker import ExecutionBlocker
from local_comfyui.input_checks import (
    Input,
    check_range,
    convert_constant,
    custom_check_arguments,
    declared_inputs,
    types_match,
)
from local_comfyui.prompt import Json, NodeClasses, is_link, is_output_node
from local_comfyui.type_names import full_type_name

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Validation:
    """The verdict on a prompt."""

    outputs: list[str]
    """Output nodes that may run; empty when the prompt is refused."""
    error: Json | None = None
    node_errors: Json = field(default_factory=dict)


@dataclass
class _Verdict:
    """What is known about one node."""

    errors: list[Json] = field(default_factory=list)
    sources_valid: bool = True

    @property
    def valid(self) -> bool:
        return self.sources_valid and not self.errors


@dataclass(frozen=True)
class _Step:
    """A place on the way through the graph: a node, and the link by which it was reached."""

    node_id: str
    through: tuple[Input, list[Any]] | None
    parent: str | None
    leaving: bool = False


def validate(
    prompt: Json, classes: NodeClasses, only_outputs: Collection[str] | None = None
) -> Validation:
    """Check a prompt, and convert its constants in place (``"5"`` becomes 5).

    Args:
        prompt: Node ids with ``class_type`` and ``inputs``.
        classes: The node classes that exist.
        only_outputs: Consider only these output nodes (``partial_execution_targets``).

    Raises:
        TypeError, IndexError: The prompt is not made of mappings; ComfyUI answers with status 500.
    """
    outputs: list[str] = []
    for node_id in prompt:
        if "class_type" not in prompt[node_id]:
            return _refused(
                "invalid_prompt",
                "Cannot execute because a node is missing the class_type property.",
                f"Node ID '#{node_id}'",
            )
        class_type = prompt[node_id]["class_type"]
        if class_type not in classes:
            return _refused(
                "invalid_prompt",
                f"Cannot execute because node {class_type} does not exist.",
                f"Node ID '#{node_id}'",
            )
        if is_output_node(classes[class_type]) and (
            only_outputs is None or node_id in only_outputs
        ):
            outputs.append(node_id)
    if not outputs:
        return _refused("prompt_no_outputs", "Prompt has no outputs", "")
    return _validate_outputs(prompt, classes, outputs)


def _refused(kind: str, message: str, details: str) -> Validation:
    error = {"type": kind, "message": message, "details": details, "extra_info": {}}
    return Validation([], error)


def _validate_outputs(prompt: Json, classes: NodeClasses, outputs: list[str]) -> Validation:
    graph = _GraphValidation(prompt, classes)
    good: list[str] = []
    on_outputs: list[str] = []
    node_errors: Json = {}
    for output in outputs:
        if graph.is_valid(output):
            good.append(output)
            continue
        errors = graph.verdicts[output].errors
        on_outputs += [f"{error['message']}: {error['details']}" for error in errors]
        _log.error("Failed to validate prompt for output %s:", output)
        for node_id, verdict in graph.verdicts.items():
            # A node that is invalid only by what stands before it carries no errors of its own.
            if verdict.errors:
                if node_id not in node_errors:
                    class_type = prompt[node_id]["class_type"]
                    node_errors[node_id] = {
                        "errors": verdict.errors,
                        "dependent_outputs": [],
                        "class_type": class_type,
                    }
                    _log_errors(class_type, node_id, verdict.errors)
                node_errors[node_id]["dependent_outputs"].append(output)
        _log.error("Output will be ignored")
    if good:
        return Validation(good, None, node_errors)
    error = {
        "type": "prompt_outputs_failed_validation",
        "message": "Prompt outputs failed validation",
        "details": "\n".join(on_outputs),
        "extra_info": {},
    }
    return Validation([], error, node_errors)


def _log_errors(class_type: str, node_id: str, errors: list[Json]) -> None:
    _log.error("* %s %s:", class_type, node_id)
    for error in errors:
        _log.error("  - %s: %s", error["message"], error["details"])


class _GraphValidation:
    """Walks from the output nodes upstream; without recursion, so depth is no limit."""

    def __init__(self, prompt: Json, classes: NodeClasses) -> None:
        self.verdicts: dict[str, _Verdict] = {}
        """Finished nodes, sources before the nodes that use them."""
        self._prompt = prompt
        self._classes = classes
        self._open: dict[str, _Verdict] = {}

    def is_valid(self, output: str) -> bool:
        """Whether an output node and everything it needs is in order."""
        stack = [_Step(output, None, None)]
        while stack:
            step = stack.pop()
            if step.leaving:
                self._leave(step)
            elif step.node_id in self.verdicts:
                self._tell_parent(step, self.verdicts[step.node_id])
            elif step.node_id in self._open:
                # A cycle: invalid, but at 0.3.64 without an error of its own.
                self._tell_parent(step, _Verdict(sources_valid=False))
            else:
                stack.append(_Step(step.node_id, step.through, step.parent, leaving=True))
                stack.extend(reversed(self._enter(step)))
        return self.verdicts[output].valid

    def _enter(self, step: _Step) -> list[_Step]:
        """Check a node's own inputs; returns the links that are to be followed."""
        verdict = self._open[step.node_id] = _Verdict()
        node = self._prompt[step.node_id]
        try:
            following: list[_Step] = []
            for declared in declared_inputs(self._classes[node["class_type"]]):
                given = declared.name in node["inputs"] and node["inputs"][declared.name]
                error = self._check(declared, node)
                if error is not None:
                    verdict.errors.append(error)
                elif isinstance(given, list):
                    following.append(_Step(given[0], (declared, given), step.node_id))
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
            verdict.errors = [_exception_problem(error, step.through)]
            return []
        return following

    def _leave(self, step: _Step) -> None:
        """All sources are known: ask the node itself, and close it."""
        verdict = self._open.pop(step.node_id)
        node = self._prompt[step.node_id]
        if not any(error["type"].startswith("exception_") for error in verdict.errors):
            try:
                verdict.errors += _custom_problems(node, self._classes, self._prompt)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
                verdict.errors = [_exception_problem(error, step.through)]
        self.verdicts[step.node_id] = verdict
        self._tell_parent(step, verdict)

    def _tell_parent(self, step: _Step, verdict: _Verdict) -> None:
        if step.parent is not None and not verdict.valid:
            self._open[step.parent].sources_valid = False

    def _check(self, declared: Input, node: Json) -> Json | None:
        inputs = node["inputs"]
        if declared.name not in inputs:
            if not declared.required:
                return None
            return declared.problem("required_input_missing", "Required input is missing")
        own_checks, checks_everything = custom_check_arguments(self._classes[node["class_type"]])
        if isinstance(inputs[declared.name], list):
            return self._check_link(declared, inputs[declared.name], "input_types" in own_checks)
        error = convert_constant(declared, inputs)
        if error is not None or checks_everything or declared.name in own_checks:
            return error
        return check_range(declared, inputs[declared.name])

    def _check_link(self, declared: Input, link: list[Any], types_checked: bool) -> Json | None:
        if len(link) != 2:
            return declared.problem(
                "bad_linked_input",
                "Bad linked input, must be a length-2 list of [node_id, slot_index]",
                input_config=declared.config,
                received_value=link,
            )
        source_class = self._classes[self._prompt[link[0]]["class_type"]]
        received = tuple(source_class.RETURN_TYPES)[link[1]]
        if types_checked or types_match(received, declared.kind):
            return None
        return declared.problem(
            "return_type_mismatch",
            "Return type mismatch between linked nodes",
            f"{declared.name}, received_type({received}) mismatch input_type({declared.kind})",
            input_config=declared.config,
            received_type=received,
            linked_node=link,
        )


def _custom_problems(node: Json, classes: NodeClasses, prompt: Json) -> list[Json]:
    """Ask a node's own ``VALIDATE_INPUTS``; linked inputs are None to it."""
    node_class = classes[node["class_type"]]
    names, everything = custom_check_arguments(node_class)
    if not names and not everything:
        return []
    declared = {entry.name for entry in declared_inputs(node_class)}
    arguments = {
        name: None if is_link(value) else value
        for name, value in node["inputs"].items()
        if name in declared and (everything or name in names)
    }
    if "input_types" in names:
        arguments["input_types"] = {
            name: classes[prompt[value[0]]["class_type"]].RETURN_TYPES[value[1]]
            for name, value in node["inputs"].items()
            if is_link(value) and name in declared
        }
    verdict = node_class.VALIDATE_INPUTS(**arguments)
    if verdict is True or isinstance(verdict, ExecutionBlocker):
        return []
    return [
        {
            "type": "custom_validation_failed",
            "message": "Custom validation failed for node",
            "details": name if verdict is False else f"{name} - {verdict}",
            "extra_info": {"input_name": name},
        }
        for name in arguments
    ]


def _exception_problem(error: Exception, through: tuple[Input, list[Any]] | None) -> Json:
    """The error about a node whose check raised, reached by a link or as an output node."""
    kind = full_type_name(type(error))
    frames = traceback.format_tb(error.__traceback__)
    if through is None:
        return {
            "type": "exception_during_validation",
            "message": "Exception when validating node",
            "details": str(error),
            "extra_info": {"exception_type": kind, "traceback": frames},
        }
    declared, link = through
    return {
        "type": "exception_during_inner_validation",
        "message": "Exception when validating inner node",
        "details": str(error),
        "extra_info": {
            "input_name": declared.name,
            "input_config": declared.config,
            "exception_message": str(error),
            "exception_type": kind,
            "traceback": frames,
            "linked_node": link,
        },
    }
