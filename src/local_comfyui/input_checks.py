"""Checks of one node: the types and ranges of its inputs, what its class itself says about them.

The types, texts and structures of the errors are those of ComfyUI 0.3.64 ``execution.py``.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from local_comfyui.prompt import Json, NodeClass, NodeClasses, full_type_name, is_link

_MOST_OPTIONS_SHOWN = 20
_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "INT": int,
    "FLOAT": float,
    "STRING": str,
    "BOOLEAN": bool,
}


class Input(NamedTuple):
    """One declared input of a node class."""

    name: str
    kind: Any
    options: Json
    required: bool

    def problem(self, kind: str, message: str, details: str | None = None, **extra: Any) -> Json:
        """An error about this input, in ComfyUI's structure."""
        if "input_config" in extra:
            extra["input_config"] = extra["input_config"] and [self.kind, self.options]
        details = self.name if details is None else details
        return _problem(kind, message, details, {"input_name": self.name, **extra})


def _problem(kind: str, message: str, details: str, extra_info: Json) -> Json:
    return {"type": kind, "message": message, "details": details, "extra_info": extra_info}


Through = tuple[Input, list[Any]]
"""An input, and the link in it."""


def check_node(
    node_id: str, prompt: Json, classes: NodeClasses, through: Through | None
) -> tuple[list[Json], list[Through]]:
    """Check a node's own inputs, and convert its constants in place.

    It was reached ``through`` a link, or as an output node.

    Returns:
        The errors, and the links whose sources are to be checked next.
    """
    errors: list[Json] = []
    followed: list[Through] = []
    try:
        node_class, inputs = classes[prompt[node_id]["class_type"]], prompt[node_id]["inputs"]
        all_declared = _declared_inputs(node_class)
        by_class = _checked_by_class(node_class, [declared.name for declared in all_declared])
        for declared in all_declared:
            given, error = inputs.get(declared.name), None
            if declared.name not in inputs and declared.required:
                error = declared.problem("required_input_missing", "Required input is missing")
            elif isinstance(given, list):
                error = _link_problem(declared, given, prompt, classes)
                followed += [] if error else [(declared, given)]
            elif declared.name in inputs:
                error = _convert_constant(declared, inputs)
                if error is None and declared.name not in by_class:
                    error = _range_problem(declared, inputs[declared.name])
            errors += [error] if error else []
        errors += _custom_problems(
            node_class, [name for name in inputs if name in by_class], inputs
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
        return [_exception_problem(error, through)], []
    return errors, followed


def types_match(received: Any, wanted: Any) -> bool:
    """Whether an output may be linked to an input (0.3.64 ``comfy_execution/validation.py``).

    Comma-separated unions must have a type in common; a list of options fits only an equal list.
    ``*`` is no type that fits all: extra nodes that want this hand out a string whose ``!=`` is
    always false, so that is the operator to ask.
    """
    if not received != wanted:  # noqa: SIM202 - see above
        return True
    if not isinstance(received, str) or not isinstance(wanted, str):
        return False
    offered = {kind.strip() for kind in received.split(",")}
    return not offered.isdisjoint(kind.strip() for kind in wanted.split(","))


def _declared_inputs(node_class: NodeClass) -> list[Input]:
    """The required and optional inputs of a node class."""
    sections = node_class.INPUT_TYPES()
    return [
        Input(name, config[0], config[1] if len(config) > 1 else {}, section == "required")
        for section in ("required", "optional")
        for name, config in sections.get(section, {}).items()
    ]


def _link_problem(
    declared: Input, link: list[Any], prompt: Json, classes: NodeClasses
) -> Json | None:
    if len(link) != 2:
        message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
        return declared.problem("bad_linked_input", message, input_config=True, received_value=link)
    received = tuple(classes[prompt[link[0]]["class_type"]].RETURN_TYPES)[link[1]]
    if types_match(received, declared.kind):
        return None
    types = f"received_type({received}) mismatch input_type({declared.kind})"
    return declared.problem(
        "return_type_mismatch",
        "Return type mismatch between linked nodes",
        f"{declared.name}, {types}",
        input_config=True,
        received_type=received,
        linked_node=link,
    )


def _convert_constant(declared: Input, inputs: Json) -> Json | None:
    """Convert a constant to its input's type, in place."""
    value = inputs[declared.name]
    if isinstance(value, dict) and "__value__" in value:  # how a list is given as a constant
        value = inputs[declared.name] = value["__value__"]
    convert = _CONVERSIONS.get(declared.kind) if isinstance(declared.kind, str) else None
    try:
        inputs[declared.name] = convert(value) if convert else value
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
        return declared.problem(
            "invalid_input_type",
            f"Failed to convert an input value to a {declared.kind} value",
            f"{declared.name}, {value}, {error}",
            input_config=True,
            received_value=value,
            exception_message=str(error),
        )
    return None


def _range_problem(declared: Input, value: Any) -> Json | None:
    """The error of a constant that is too small, too big or none of the options."""
    options, given = declared.kind, {"input_config": True, "received_value": value}
    lowest, highest = declared.options.get("min"), declared.options.get("max")
    if lowest is not None and value < lowest:
        message = f"Value {value} smaller than min of {lowest}"
        return declared.problem("value_smaller_than_min", message, **given)
    if highest is not None and value > highest:
        message = f"Value {value} bigger than max of {highest}"
        return declared.problem("value_bigger_than_max", message, **given)
    # Choices in the newer shape, "COMBO" with options, are not checked at 0.3.64.
    if not isinstance(options, list | tuple) or value in options:
        return None
    shown = str(list(options))
    if len(options) > _MOST_OPTIONS_SHOWN:
        shown, given["input_config"] = f"(list of length {len(options)})", None
    details = f"{declared.name}: '{value}' not in {shown}"
    return declared.problem("value_not_in_list", "Value not in list", details, **given)


def _checked_by_class(node_class: NodeClass, names: list[str]) -> list[str]:
    """The inputs that a class's own ``VALIDATE_INPUTS`` takes."""
    if not hasattr(node_class, "VALIDATE_INPUTS"):
        return []
    signature = inspect.getfullargspec(node_class.VALIDATE_INPUTS)
    taken = names if signature.varkw else (*signature.args, *signature.kwonlyargs)
    return [name for name in names if name in taken]


def _custom_problems(node_class: NodeClass, names: list[str], inputs: Json) -> list[Json]:
    """Ask a node's own ``VALIDATE_INPUTS``; linked inputs are None to it."""
    if not names:
        return []
    given = {name: None if is_link(inputs[name]) else inputs[name] for name in names}
    verdict = node_class.VALIDATE_INPUTS(**given)
    if verdict is True:
        return []
    said = "" if verdict is False else f" - {verdict}"
    message = "Custom validation failed for node"
    return [
        _problem("custom_validation_failed", message, name + said, {"input_name": name})
        for name in names
    ]


def _exception_problem(error: Exception, through: Through | None) -> Json:
    """The error about a node whose check raised, reached by a link or as an output node."""
    frames = traceback.format_tb(error.__traceback__)
    raised: Json = {"exception_type": full_type_name(type(error)), "traceback": frames}
    if through is None:
        message = "Exception when validating node"
        return _problem("exception_during_validation", message, str(error), raised)
    declared, link = through
    raised |= {"input_config": True, "exception_message": str(error), "linked_node": link}
    kind, message = "exception_during_inner_validation", "Exception when validating inner node"
    return declared.problem(kind, message, str(error), **raised)
