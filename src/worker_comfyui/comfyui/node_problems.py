"""What ComfyUI finds wrong with single nodes and their inputs → details that a caller can act on.

Shapes of `node_errors`: ComfyUI 0.3.64 execution.py (validate_inputs), recorded in
test_resources/comfyui/transcripts/prompt_refused.json and partly_valid.json.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from worker_comfyui.comfyui.entry import mapping, word
from worker_comfyui.comfyui.file_problems import group_of, not_listed, not_sent
from worker_comfyui.comfyui.node_classes import choices_of, inputs_of, limits_of, type_of
from worker_comfyui.errors import Detail
from worker_comfyui.job import Workflow, is_link
from worker_comfyui.wording import MAX_TEXT, cut, likely, listed

MAX_OPTIONS = 10

NodeClass = Callable[[str], dict[str, Any] | None]
"""Gives a node class's description (as in /object_info), or None."""
Locate = Callable[[Detail], Detail]
"""Adds to the detail of a value that is not among the choices where such a model lies."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """What was refused, and where to look things up.

    Attributes:
        workflow: As the caller sent it.
        node_class: Describes a node class.
        node_classes: Gives the names of all node classes; slow.
        sent: Names of the input files that came with it.
        locate: Finds models.
        misfits: What may be the cause of all problems of a node, by its id.
    """

    workflow: Workflow
    node_class: NodeClass
    node_classes: Callable[[], Iterable[str]]
    sent: Collection[str] = ()
    locate: Locate = lambda detail: detail
    misfits: Mapping[str, str] = field(default_factory=dict)


def node_problems(node_errors: Any, lookup: Lookup, *, told: Container[str] = ()) -> list[Detail]:
    """Turn `node_errors` into details: one for each problem of each node, but of types `told`."""
    if not isinstance(node_errors, dict):
        return []
    # Each description is a request to ComfyUI, and many problems may be of one class.
    lookup = replace(lookup, node_class=cache(lookup.node_class))
    details: list[Detail] = []
    for node_id, told_of in node_errors.items():
        node = mapping(told_of)
        class_type, found = str(node.get("class_type")), node.get("errors")
        inputs = lookup.workflow.get(node_id, {}).get("inputs", {})
        cause = lookup.misfits.get(node_id)
        for problem in found if isinstance(found, list) else ():
            if isinstance(problem, dict) and word(problem.get("type")) not in told:
                detail: Detail = {"node_id": cut(str(node_id)), "class_type": cut(class_type)}
                detail.update(_problem(problem, inputs, class_type, lookup))
                if problem.get("type") == "value_not_in_list":
                    detail = lookup.locate(detail)
                if cause:  # once for each node
                    detail["message"] += f"; {cause}"
                    cause = None
                details.append(detail)
    return details


def _problem(
    problem: dict[str, Any], inputs: dict[str, Any], class_type: str, lookup: Lookup
) -> Detail:
    info = mapping(problem.get("extra_info"))
    if info.get("input_name") is None:
        return _broken_link(problem, inputs, lookup) or {"message": _said(problem)}
    name = str(info["input_name"])
    detail: Detail = {"input": cut(name)}
    received = info.get("received_value", inputs.get(name))
    if received is not None:
        detail["received"] = _cut_value(received)
    config = info.get("input_config") or _input_config(class_type, name, lookup.node_class)
    may_be_file = word(problem.get("type")) in {"value_not_in_list", "custom_validation_failed"}
    if may_be_file and isinstance(received, str) and (group := group_of(config, received)):
        if received not in lookup.sent:
            return detail | not_sent(received, group, lookup.sent)
        if problem.get("type") == "value_not_in_list":
            return detail | not_listed(received, choices_of(config) or ())
    return detail | _reason(problem, info, config, detail.get("received"))


def _reason(  # noqa: PLR0911  # one return a kind
    problem: dict[str, Any], info: dict[str, Any], config: Any, received: Any
) -> Detail:
    """Say what is wrong with an input, and what it takes."""
    wanted = cut(type_of(config) or "") or None
    takes = wanted or "another type"
    match problem.get("type"):
        case "value_not_in_list":
            return _not_in_list(received, choices_of(config))
        case "required_input_missing" if wanted and wanted != "COMBO":
            return {"allowed": wanted, "message": f"is required, but missing: it takes {wanted}"}
        case "required_input_missing":
            names = [cut(str(choice)) for choice in choices_of(config) or ()]
            if not names:
                return {"message": "is required, but missing"}
            allowed = names[:MAX_OPTIONS]
            message = f"is required, but missing: it takes one of {listed(names, MAX_OPTIONS)}"
            return {"allowed": allowed, "message": message}
        case "return_type_mismatch":
            given = cut(str(info.get("received_type")))
            message = f"is linked to an output of type {given}, but takes {takes}"
            return {"received": given, "allowed": takes, "message": message}
        case "value_bigger_than_max" | "value_smaller_than_min":
            bounds = _bounds(config)
            return {"allowed": bounds, "message": f"is {received}, but must be {bounds}"}
        case "invalid_input_type":
            why = cut(str(info.get("exception_message") or _said(problem)))
            return {"allowed": takes, "message": f"is {received!r}, but takes {takes}: {why}"}
        case "custom_validation_failed":
            text = cut(str(problem.get("details") or ""))
            return {"message": text.partition(" - ")[2] or text or _said(problem)}
        case _:
            return {"message": _said(problem)}


def _said(problem: dict[str, Any]) -> str:
    """Repeat ComfyUI's own words for a problem that is not known here."""
    parts = (problem.get("message") or problem.get("type"), problem.get("details"))
    return cut(": ".join(str(part) for part in parts if part) or "is not valid")


def _input_config(class_type: str, name: str, node_class: NodeClass) -> Any:
    """Look up what an input takes; ComfyUI leaves it out of some answers, long lists for one."""
    return dict(inputs_of(node_class(class_type) or {})).get(name)


def _not_in_list(received: Any, choices: list[Any] | None) -> Detail:
    message = f"is {_shown(received)}, which is not among the choices"
    if choices is None:
        return {"message": message}
    if not choices:
        return {
            "allowed": [],
            "message": f"{message}: there are none, so the models of this kind are missing "
            "from the image and the network volume",
        }
    names = [cut(str(choice)) for choice in choices]
    detail: Detail = {"allowed": names[:MAX_OPTIONS]}
    if len(names) > MAX_OPTIONS:
        detail["allowed_count"] = len(names)
    same = [choice for choice in choices if str(choice) == str(received)]
    close = likely(str(received), names)
    if same:
        kind = "a number" if isinstance(same[0], int | float) else f"a {type(same[0]).__name__}"
        message = f"is the text {_shown(received)}, but {kind} is meant: {same[0]}, without quotes"
    elif close:
        detail["did_you_mean"] = close
        message += f"; did you mean {close!r}?"
    else:
        message += f": {listed(names, MAX_OPTIONS)}"
    detail["message"] = message
    return detail


def _shown(value: Any) -> str:
    return repr(cut(value) if isinstance(value, str) else value)[: MAX_TEXT + 2]


def _bounds(config: Any) -> str:
    limits = limits_of(config)
    parts = [
        f"{word} {limits[key]}"
        for key, word in (("min", "at least"), ("max", "at most"))
        if key in limits
    ]
    return " and ".join(parts) or "within the node's limits"


def _broken_link(problem: dict[str, Any], inputs: dict[str, Any], lookup: Lookup) -> Detail | None:
    """Find the link that makes ComfyUI fail while it validates the node."""
    workflow = lookup.workflow
    if problem.get("type") != "exception_during_validation":
        return None
    for name, value in inputs.items():
        if not is_link(value):
            continue
        source, index = value
        if source not in workflow:
            message = f"is linked to node {cut(source)}, which the workflow does not have"
            return {"input": name, "received": [cut(source), index], "message": message}
        class_type = str(workflow[source].get("class_type"))
        outputs = (lookup.node_class(class_type) or {}).get("output")
        if isinstance(outputs, (list, tuple)) and index not in range(len(outputs)):
            allowed = f"0 to {len(outputs) - 1}" if outputs else "none"
            return {
                "input": name,
                "received": value,
                "allowed": allowed,
                "message": f"is linked to output {index} of node {source} ({class_type}), "
                f"which has {len(outputs)} (counted from 0)",
            }
    return None


def _cut_value(value: Any) -> Any:
    return (
        cut(value)
        if isinstance(value, str)
        else cut(str(value))
        if isinstance(value, (list, dict))
        else value
    )
