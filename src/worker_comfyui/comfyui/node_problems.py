"""What ComfyUI finds wrong with single nodes and their inputs → details that a caller can act on.

Shapes of `node_errors`: ComfyUI 0.3.64 execution.py (validate_inputs), recorded in
test_resources/comfyui/transcripts/prompt_refused.json and partly_valid.json.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Container, Iterable
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Any

from worker_comfyui.errors import Detail
from worker_comfyui.job import Workflow, is_link

MAX_OPTIONS = 10
MAX_TEXT = 300

NodeClass = Callable[[str], dict[str, Any] | None]
"""Gives a node class's description (as in /object_info), or None."""
Locate = Callable[[Detail], Detail]
"""Adds to the detail of a value that is not among the choices where such a model lies."""


@dataclass(frozen=True, slots=True)
class Context:
    """What was refused, and where to look things up.

    Attributes:
        workflow: As the caller sent it.
        node_class: Describes a node class.
        node_classes: Gives the names of all node classes; slow.
        sent: Names of the input files that came with it.
        locate: Finds models.
    """

    workflow: Workflow
    node_class: NodeClass
    node_classes: Callable[[], Iterable[str]]
    sent: Collection[str] = ()
    locate: Locate = lambda detail: detail


def node_problems(node_errors: Any, context: Context, *, told: Container[str] = ()) -> list[Detail]:
    """Turn `node_errors` into details: one for each problem of each node, but of types `told`."""
    if not isinstance(node_errors, dict):
        return []
    context = replace(context, node_class=cache(context.node_class))
    details: list[Detail] = []
    for node_id, node in node_errors.items():
        if not isinstance(node, dict):
            continue
        class_type = str(node.get("class_type"))
        inputs = context.workflow.get(node_id, {}).get("inputs", {})
        for problem in node.get("errors") or ():
            if isinstance(problem, dict) and problem.get("type") not in told:
                detail: Detail = {"node_id": cut(str(node_id)), "class_type": cut(class_type)}
                detail.update(_problem(problem, inputs, class_type, context))
                is_choice = problem.get("type") == "value_not_in_list"
                details.append(context.locate(detail) if is_choice else detail)
    return details


def _problem(
    problem: dict[str, Any], inputs: dict[str, Any], class_type: str, context: Context
) -> Detail:
    info = problem.get("extra_info")
    info = info if isinstance(info, dict) else {}
    if info.get("input_name") is None:
        return _broken_link(problem, inputs, context) or {"message": _said(problem)}
    name = str(info["input_name"])
    detail: Detail = {"input": cut(name)}
    received = info.get("received_value", inputs.get(name))
    if received is not None:
        detail["received"] = _cut_value(received)
    config = info.get("input_config") or _input_config(class_type, name, context.node_class)
    if problem.get("type") in {"value_not_in_list", "custom_validation_failed"}:
        group = _upload_group(config)
        if group and isinstance(received, str) and received not in context.sent:
            return detail | _not_sent(received, group, context.sent)
    return detail | _reason(problem, info, config, detail.get("received"))


def _upload_group(config: Any) -> str | None:
    """Name the field of the request whose files this input takes; None: it takes no such file."""
    limits = _limits(config)
    flags = [key for key, value in limits.items() if key.endswith("_upload") and value]
    if not flags or limits.get("image_folder", "input") != "input":
        return None
    return "images" if "image_upload" in flags else "files"


def _not_sent(received: str, group: str, sent: Collection[str]) -> Detail:
    message = f"there is no input file {cut(received)!r}: send it in `{group}` under this name"
    close = difflib.get_close_matches(cut(received), sent, n=1, cutoff=0.5)
    if close:
        message += f"; did you mean {cut(close[0])!r}, which was sent?"
        return {"did_you_mean": cut(close[0]), "message": message}
    if sent:
        message += f"; sent were {_listed(sent)}"
    return {"message": message}


def _reason(  # noqa: PLR0911  # one return a kind
    problem: dict[str, Any], info: dict[str, Any], config: Any, received: Any
) -> Detail:
    """Say what is wrong with an input, and what it takes."""
    wanted = _type_name(config)
    takes = wanted or "another type"
    match problem.get("type"):
        case "value_not_in_list":
            return _not_in_list(str(received), _options(config))
        case "required_input_missing" if wanted:
            return {"allowed": wanted, "message": f"is required, but missing: it takes {wanted}"}
        case "required_input_missing":
            return {"message": "is required, but missing"}
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
    inputs = (node_class(class_type) or {}).get("input") or {}
    return {**inputs.get("optional", {}), **inputs.get("required", {})}.get(name)


def _type_name(config: Any) -> str | None:
    """Name the type that an input takes; a list of choices has none."""
    first = config[0] if isinstance(config, (list, tuple)) and config else None
    return cut(first) if isinstance(first, str) else None


def _options(config: Any) -> list[str] | None:
    """List what a choice allows, in either of ComfyUI's two shapes."""
    if not isinstance(config, (list, tuple)) or not config:
        return None
    first = config[0]
    if first == "COMBO":
        first = _limits(config).get("options")
    return [cut(str(option)) for option in first] if isinstance(first, (list, tuple)) else None


def _limits(config: Any) -> dict[str, Any]:
    limits = config[1] if isinstance(config, (list, tuple)) and len(config) > 1 else {}
    return limits if isinstance(limits, dict) else {}


def _not_in_list(received: str, options: list[str] | None) -> Detail:
    message = f"is {received!r}, which is not among the choices"
    if options is None:
        return {"message": message}
    if not options:
        return {
            "allowed": [],
            "message": f"{message}: there are none, so the models of this kind are missing "
            "from the image and the network volume",
        }
    close = difflib.get_close_matches(received, options, n=1, cutoff=0.5)
    detail: Detail = {"allowed": options[:MAX_OPTIONS]}
    if len(options) > MAX_OPTIONS:
        detail["allowed_count"] = len(options)
    if close:
        detail["did_you_mean"] = close[0]
        message += f"; did you mean {close[0]!r}?"
    else:
        message += f": {_listed(options)}"
    detail["message"] = message
    return detail


def _listed(names: Collection[str]) -> str:
    """Name the first few, and count the rest."""
    shown = ", ".join(repr(cut(name)) for name in islice(names, MAX_OPTIONS))
    rest = len(names) - MAX_OPTIONS
    return f"{shown} and {rest} more" if rest > 0 else shown


def _bounds(config: Any) -> str:
    limits = _limits(config)
    parts = [
        f"{word} {limits[key]}"
        for key, word in (("min", "at least"), ("max", "at most"))
        if key in limits
    ]
    return " and ".join(parts) or "within the node's limits"


def _broken_link(
    problem: dict[str, Any], inputs: dict[str, Any], context: Context
) -> Detail | None:
    """Find the link that makes ComfyUI fail while it validates the node."""
    workflow = context.workflow
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
        outputs = (context.node_class(class_type) or {}).get("output")
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


def cut(text: str) -> str:
    """Shorten a caller's text for a message."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


def _cut_value(value: Any) -> Any:
    return (
        cut(value)
        if isinstance(value, str)
        else cut(str(value))
        if isinstance(value, (list, dict))
        else value
    )
