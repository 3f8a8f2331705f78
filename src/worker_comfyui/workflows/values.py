"""Single values: does an input of a node take them?"""

from __future__ import annotations

from collections.abc import Collection
from random import Random
from typing import Any

from worker_comfyui.comfyui.file_problems import group_of, not_sent
from worker_comfyui.errors import Detail
from worker_comfyui.job import Workflow, is_link, wrapped
from worker_comfyui.wording import cut, likely, listed
from worker_comfyui.workflows.editor.node_classes import COMBO, InputSpec

RANDOM = "random"
MAX_DRAWN = 2**53 - 1
"""Where a class states no bound; the largest integer that every reader of JSON keeps."""

_TYPES: dict[str, tuple[type, ...]] = {
    "INT": (int,),
    "FLOAT": (int, float),
    "STRING": (str,),
    "BOOLEAN": (bool,),
}


class WrongValueError(ValueError):
    """An input does not take a value.

    Attributes:
        detail: What is wrong, and what is allowed.
    """

    def __init__(self, detail: Detail) -> None:
        super().__init__(detail["message"])
        self.detail = detail


class Takes:
    """Checks values against what inputs take.

    Args:
        workflow: To whose nodes values may link.
        known: Files that a choice may name although ComfyUI does not list them yet.
        random: Draws for `"random"`.
    """

    def __init__(self, workflow: Workflow, known: Collection[str], random: Random) -> None:
        self._workflow = workflow
        self._known = known
        self._random = random

    def value(self, value: Any, spec: InputSpec | None) -> Any:
        """Return a value as it is set; `spec` is None for an input that nothing is known about.

        Raises:
            WrongValueError: the input does not take it.
        """
        if value is None:
            raise WrongValueError({"message": "must be a value, not null"})
        if is_link(value) and not _are_choices(value, spec):
            return self._link(value)
        if spec is None:
            return wrapped(value)
        if not spec.is_widget:
            message = f'takes {spec.type}, which only a link can give: ["<node id>", <output>]'
            raise WrongValueError({"message": message, "allowed": spec.type})
        if value == RANDOM and spec.type == "INT":
            return self._draw(spec)
        return self._choice(value, spec) if spec.type == COMBO else _typed(value, spec)

    def _link(self, link: list[Any]) -> list[Any]:
        node_id, output = link
        if node_id not in self._workflow:
            message = f"is a link to node {cut(node_id)}, which does not exist"
            raise WrongValueError({"message": message})
        if not isinstance(output, int):
            message = f"is a link to node {cut(node_id)}, whose outputs have the numbers 0, 1, ..."
            raise WrongValueError({"message": message})
        return link

    def _draw(self, spec: InputSpec) -> int:
        if not spec.has_control:
            message = "cannot be drawn: `random` is for seeds (control_after_generate)"
            raise WrongValueError({"message": message, "allowed": "INT"})
        low, high = _bound(spec, "min", 0), _bound(spec, "max", MAX_DRAWN)
        return self._random.randint(low, max(low, high))

    def _choice(self, value: Any, spec: InputSpec) -> Any:
        if spec.takes_several and isinstance(value, list):
            return wrapped(value)
        # The editor fetches the choices of a remote one: /object_info has none.
        is_open = spec.takes_any and not spec.choices
        if value in spec.choices or is_open or spec.options.get("remote"):
            return value
        if isinstance(value, str) and value in self._known:
            return value
        if isinstance(value, str) and (
            group := group_of([list(spec.choices), dict(spec.options)], value)
        ):
            said = not_sent(value, group, self._known)
            raise WrongValueError({**said, "received": cut(value)})
        choices = [str(choice) for choice in spec.choices]
        message = f"is {cut(value)!r}, which is not among the choices"
        facts = with_candidates(message, str(value), choices, "there are")
        raise WrongValueError({**facts, "received": cut(value), "allowed": choices[:10]})


def _are_choices(value: list[Any], spec: InputSpec | None) -> bool:
    """Tell two choices of a combo that takes several from a link, whose second is a number."""
    return spec is not None and spec.takes_several and isinstance(value[1], str)


def _bound(spec: InputSpec, key: str, default: int) -> int:
    value = spec.options.get(key)
    return int(value) if isinstance(value, int | float) else default


def _typed(value: Any, spec: InputSpec) -> Any:
    if spec.type == "INT" and isinstance(value, float) and value.is_integer():
        value = int(value)  # some clients write every number with a point
    wanted = _TYPES.get(spec.type)
    if wanted is None:
        return wrapped(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and spec.type != "BOOLEAN"):
        message = f"is {cut(repr(value))}, but takes {spec.type}"
        raise WrongValueError({"message": message, "received": cut(value), "allowed": spec.type})
    if isinstance(value, int | float) and spec.type != "BOOLEAN":
        _check_bounds(value, spec)
    return value


def _check_bounds(value: float, spec: InputSpec) -> None:
    bounds = [(word, spec.options.get(key)) for key, word in (("min", "least"), ("max", "most"))]
    parts = [f"at {word} {bound}" for word, bound in bounds if isinstance(bound, int | float)]
    low, high = (bound for _, bound in bounds)
    if (isinstance(low, int | float) and value < low) or (
        isinstance(high, int | float) and value > high
    ):
        allowed = " and ".join(parts)
        raise WrongValueError(
            {
                "message": f"is {value}, but must be {allowed}",
                "received": value,
                "allowed": allowed,
            }
        )


def with_candidates(message: str, wanted: str, names: Collection[str], there: str) -> Detail:
    """Say what is wrong with a name, with the closest one that is right, or a list of some."""
    close = likely(wanted, names)
    if close:
        return {"did_you_mean": cut(close), "message": f"{message}; did you mean {cut(close)!r}?"}
    return {"message": f"{message}; {there} {listed(names)}" if names else message}
