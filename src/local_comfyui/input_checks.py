"""Checks of single inputs: their type, their range, what their node class itself says about them.

The types, texts and structures of the errors are those of ComfyUI 0.3.64 ``execution.py``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from local_comfyui.prompt import Json, NodeClass

_MOST_OPTIONS_SHOWN = 20
_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "INT": int,
    "FLOAT": float,
    "STRING": str,
    "BOOLEAN": bool,
}


@dataclass(frozen=True)
class Input:
    """One declared input of a node class."""

    name: str
    kind: Any
    options: Json
    required: bool

    @property
    def config(self) -> list[Any]:
        """The declaration as errors show it: type and options."""
        return [self.kind, self.options]

    def problem(self, kind: str, message: str, details: str | None = None, **extra: Any) -> Json:
        """An error about this input, in ComfyUI's structure."""
        return {
            "type": kind,
            "message": message,
            "details": self.name if details is None else details,
            "extra_info": {"input_name": self.name, **extra},
        }


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


def declared_inputs(node_class: NodeClass) -> list[Input]:
    """The required and optional inputs of a node class."""
    sections = node_class.INPUT_TYPES()
    return [
        Input(name, config[0], config[1] if len(config) > 1 else {}, section == "required")
        for section in ("required", "optional")
        for name, config in sections.get(section, {}).items()
    ]


def convert_constant(declared: Input, inputs: Json) -> Json | None:
    """Convert a constant to its input's type, in place."""
    value = inputs[declared.name]
    if isinstance(value, dict) and "__value__" in value:  # how a list is given as a constant
        value = inputs[declared.name] = value["__value__"]
    convert = _CONVERSIONS.get(declared.kind) if isinstance(declared.kind, str) else None
    if convert is None:
        return None
    try:
        inputs[declared.name] = convert(value)
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
        return declared.problem(
            "invalid_input_type",
            f"Failed to convert an input value to a {declared.kind} value",
            f"{declared.name}, {value}, {error}",
            input_config=declared.config,
            received_value=value,
            exception_message=str(error),
        )
    return None


def check_range(declared: Input, value: Any) -> Json | None:
    """The error of a constant that is too small, too big or none of the options."""
    lowest, highest = declared.options.get("min"), declared.options.get("max")
    given = {"input_config": declared.config, "received_value": value}
    if lowest is not None and value < lowest:
        message = f"Value {value} smaller than min of {lowest}"
        return declared.problem("value_smaller_than_min", message, **given)
    if highest is not None and value > highest:
        message = f"Value {value} bigger than max of {highest}"
        return declared.problem("value_bigger_than_max", message, **given)
    options = _options(declared)
    if options is None or value in options:
        return None
    shown = str(options)
    if len(options) > _MOST_OPTIONS_SHOWN:
        shown, given["input_config"] = f"(list of length {len(options)})", None
    details = f"{declared.name}: '{value}' not in {shown}"
    return declared.problem("value_not_in_list", "Value not in list", details, **given)


def _options(declared: Input) -> list[Any] | None:
    """The options of a list-style combo; V3 ``COMBO`` inputs are not checked at 0.3.64."""
    return list(declared.kind) if isinstance(declared.kind, list | tuple) else None


def custom_check_arguments(node_class: NodeClass) -> tuple[set[str], bool]:
    """What a class's own ``VALIDATE_INPUTS`` takes: names of inputs, and whether all of them."""
    check = getattr(node_class, "VALIDATE_INPUTS", None)
    if check is None:
        return set(), False
    signature = inspect.getfullargspec(check)
    return set(signature.args) | set(signature.kwonlyargs), signature.varkw is not None
