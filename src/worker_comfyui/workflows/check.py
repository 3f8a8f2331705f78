"""What ComfyUI would say about a workflow, asked of `/object_info` alone.

ComfyUI has no route that checks without running. This makes the answer that POST /prompt would give
(0.33 execution.py: validate_prompt, validate_inputs) and lets the worker explain it as it explains
real ones. It does not know what the checks of single classes say (VALIDATE_INPUTS): a class that
accepts more than its description says is reported too strictly.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from worker_comfyui.comfyui.node_problems import Locate, Lookup
from worker_comfyui.comfyui.rejection import explain
from worker_comfyui.errors import Detail
from worker_comfyui.job import Workflow, is_link
from worker_comfyui.workflows.class_inputs import specs_of
from worker_comfyui.workflows.editor.node_classes import COMBO, MATCH_TYPE, InputSpec

_CONVERTED = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


def problems(
    workflow: Workflow,
    object_info: Mapping[str, Any],
    *,
    sent: Collection[str] = (),
    locate: Locate = lambda detail: detail,
    told: Sequence[Detail] = (),
) -> list[Detail]:
    """Find what would keep ComfyUI from running a workflow.

    Args:
        workflow: In the API format, of the right shape.
        object_info: Of the ComfyUI that will run it.
        sent: Names of the input files that come with the request.
        locate: Finds models that are missing.
        told: What the conversion found; it comes first, and is not told twice.

    Returns:
        All problems, at most some dozens, in the shape of a refused prompt's.
    """
    check = _Check(workflow, object_info, sent)
    lookup = Lookup(
        workflow,
        check.description,
        lambda: object_info,
        sent,
        locate,
    )
    found: list[Detail] = []
    nodes_told = {detail["node_id"] for detail in told if "node_id" in detail}
    if check.unknown:
        found += explain({"error": {"type": "missing_node_type"}}, lookup).details
    errors = check.node_errors()
    refused = {"error": {"type": "prompt_outputs_failed_validation"}, "node_errors": errors}
    loops_or_errors = explain(refused, lookup).details
    # Where no node is wrong `explain` still finds a circle of links, or else says nothing of use.
    if errors or any("node_id" in detail for detail in loops_or_errors):
        found += loops_or_errors
    if not check.outputs and not check.unknown:
        found += explain({"error": {"type": "prompt_no_outputs"}}, lookup).details
    # Of a node whose class is missing both know; an input is known here alone.
    new = (one for one in found if "input" in one or one.get("node_id") not in nodes_told)
    return [*told, *new]


class _Check:
    def __init__(
        self, workflow: Workflow, object_info: Mapping[str, Any], sent: Collection[str]
    ) -> None:
        self._workflow = workflow
        self._object_info = object_info
        self._sent = sent
        self.unknown = {
            node["class_type"]
            for node in workflow.values()
            if self.description(node["class_type"]) is None
        }
        self.outputs = [
            node_id for node_id, node in workflow.items() if self._is_output(node["class_type"])
        ]

    def description(self, class_type: str) -> dict[str, Any] | None:
        found = self._object_info.get(class_type)
        return found if isinstance(found, dict) else None

    def _is_output(self, class_type: str) -> bool:
        return (self.description(class_type) or {}).get("output_node") is True

    def node_errors(self) -> dict[str, Any]:
        """Make ComfyUI's `node_errors`, of the nodes that lead to outputs."""
        errors: dict[str, Any] = {}
        for node_id in self._needed():
            node = self._workflow[node_id]
            description = self.description(node["class_type"])
            if description is not None:
                found = list(self._node(node["inputs"], description))
                if found:
                    errors[node_id] = {"class_type": node["class_type"], "errors": found}
        return errors

    def _needed(self) -> list[str]:
        """List the nodes that ComfyUI would look at; all of them if there is no output."""
        if not self.outputs:
            return list(self._workflow)
        needed = dict.fromkeys(self.outputs)
        waiting = list(self.outputs)
        while waiting:
            for value in self._workflow[waiting.pop()]["inputs"].values():
                if is_link(value) and value[0] in self._workflow and value[0] not in needed:
                    needed[value[0]] = None
                    waiting.append(value[0])
        return [node_id for node_id in self._workflow if node_id in needed]

    def _node(
        self, inputs: Mapping[str, Any], description: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        broken = False
        for spec in specs_of(description, inputs).values():
            if spec.name not in inputs:
                if not spec.optional:
                    yield _error("required_input_missing", spec)
            elif isinstance(inputs[spec.name], list):
                error = self._link(inputs[spec.name], spec)
                if error is not None and error["type"] == "exception_during_validation":
                    broken = True
                elif error is not None:
                    yield error
            else:
                yield from self._value(inputs[spec.name], spec)
        if broken:
            yield {"type": "exception_during_validation", "extra_info": {}}

    def _link(self, link: list[Any], spec: InputSpec) -> dict[str, Any] | None:
        if not is_link(link):
            return _error("bad_linked_input", spec, received_value=link)
        source = self._workflow.get(link[0])
        description = self.description(source["class_type"]) if source else None
        if source is not None and description is None:  # told already; nobody knows what it gives
            return None
        outputs = description.get("output") if description else None
        count = len(outputs) if isinstance(outputs, list | tuple) else 0
        if outputs is None or not isinstance(link[1], int) or not 0 <= link[1] < count:
            # ComfyUI says no more: it fails with a KeyError or an IndexError.
            return {"type": "exception_during_validation"}
        given = outputs[link[1]]
        if fits(given, spec):
            return None
        return _error("return_type_mismatch", spec, received_type=given)

    def _value(self, value: Any, spec: InputSpec) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict) and "__value__" in value:
            value = value["__value__"]
        if spec.type in _CONVERTED:
            try:
                value = _CONVERTED[spec.type](value)
            except (TypeError, ValueError, OverflowError) as error:
                yield _error(
                    "invalid_input_type", spec, received_value=value, exception_message=str(error)
                )
                return
        low, high = spec.options.get("min"), spec.options.get("max")
        if _is_number(value) and _is_number(low) and value < low:
            yield _error("value_smaller_than_min", spec, received_value=value)
        elif _is_number(value) and _is_number(high) and value > high:
            yield _error("value_bigger_than_max", spec, received_value=value)
        elif spec.type == COMBO and not self._is_choice(value, spec):
            yield _error("value_not_in_list", spec, received_value=value)

    def _is_choice(self, value: Any, spec: InputSpec) -> bool:
        is_upload = any(key.endswith("_upload") and on for key, on in spec.options.items())
        # A remote list of files is that of ComfyUI's output folder, which is empty.
        if spec.takes_any or (spec.options.get("remote") and not is_upload):
            return True
        if spec.takes_several and isinstance(value, list):
            return all(item in spec.choices for item in value)
        return value in spec.choices or (is_upload and value in self._sent)  # not uploaded yet


def fits(given: Any, spec: InputSpec) -> bool:
    """Tell whether an output of a type may be linked to an input.

    Source: ComfyUI 0.33 comfy_execution/validation.py (validate_node_input).
    """
    if spec.type in {MATCH_TYPE, "*"} or given in (MATCH_TYPE, "*"):
        return True
    if isinstance(given, list):
        return spec.type == COMBO
    ours, theirs = ({part.strip() for part in str(one).split(",")} for one in (given, spec.type))
    return bool(ours & theirs) or "*" in ours | theirs


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _error(kind: str, spec: InputSpec, **facts: Any) -> dict[str, Any]:
    config = [spec.type, dict(spec.options)]
    return {"type": kind, "extra_info": {"input_name": spec.name, "input_config": config, **facts}}
