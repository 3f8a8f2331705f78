"""One node's call: what its function is called with, how often, and what that gives together.

The behaviour is that of ComfyUI 0.3.64 ``execution.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local_comfyui.prompt import Json, NodeClass, QueueItem, hidden_inputs, is_link

Values = dict[str, list[Any]]
"""Each input with the list of its values; longer than one when a list node stands before it."""


class ExecutionBlocker:
    """Returned by a node in place of an output: the nodes that take it are not called."""

    def __init__(self, message: str | None) -> None:
        """Block silently (None), or with a message that the client gets."""
        self.message = message


def collect(
    node_id: str,
    item: QueueItem,
    node_class: NodeClass,
    output_of: Callable[[str, int], list[Any] | None],
) -> Values:
    """Gather a node's inputs; an input whose source has no value yet is ``[None]``."""
    sections = node_class.INPUT_TYPES()
    values: Values = {}
    for name, value in item.prompt[node_id]["inputs"].items():
        if is_link(value):
            found = output_of(value[0], int(value[1]))  # JSON's 0.0 is a slot as well
            values[name] = [None] if found is None else found
        elif name in sections.get("required", {}) or name in sections.get("optional", {}):
            values[name] = [value]
    known = {**item.extra_data, **item.sensitive, "prompt": item.prompt, "unique_id": node_id}
    for name, kind in hidden_inputs(node_class).items():
        values[name] = [known.get(kind.lower())]
    return values


def calls(values: Values, *, as_lists: bool) -> list[dict[str, Any]]:
    """The keyword arguments of each call: a node is called once per element of its longest input.

    With ``as_lists`` (``INPUT_IS_LIST``) the node takes whole lists, so there is one call.
    """
    if as_lists:
        return [dict(values)]
    if not all(values.values()):  # an empty list: there is nothing to call it with
        return []
    return [
        {name: elements[min(index, len(elements) - 1)] for name, elements in values.items()}
        for index in range(max(map(len, values.values()), default=1))
    ]


def call(
    instance: Any, values: Values, before: Callable[[], None], on_block: Callable[[str], None]
) -> tuple[list[list[Any]], Json]:
    """Call a node's function for each element of its inputs, and join what it returns.

    ``before`` is done before each call; ``on_block`` is told the message of a blocker that keeps
    a call from being made.

    Returns:
        For each output slot the list of its values, and the node's ``ui``.
    """
    slots = len(instance.RETURN_TYPES)
    is_list = getattr(instance, "OUTPUT_IS_LIST", None) or [False] * slots
    outputs: list[list[Any]] = [[] for _ in range(slots)]
    ui: Json = {}
    for keywords in calls(values, as_lists=getattr(instance, "INPUT_IS_LIST", False)):
        before()
        result = _called(instance, keywords, on_block)
        if isinstance(result, dict):
            for name, elements in result.get("ui", {}).items():
                ui.setdefault(name, []).extend(elements)
            result = result.get("result")
        if isinstance(result, ExecutionBlocker):
            result = (result,) * slots
        for slot, element in enumerate((result or ())[:slots]):
            blocked = isinstance(element, ExecutionBlocker)
            outputs[slot] += element if is_list[slot] and not blocked else [element]
    return outputs, ui


def _called(instance: Any, keywords: Json, on_block: Callable[[str], None]) -> Any:
    """What the function returns; a silent blocker if one of its arguments is or has a blocker."""
    for value in keywords.values():
        for element in value if isinstance(value, list) else [value]:
            if isinstance(element, ExecutionBlocker):
                if element.message is not None:
                    on_block(element.message)
                return ExecutionBlocker(None)
    return getattr(instance, instance.FUNCTION)(**keywords)
