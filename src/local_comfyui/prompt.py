"""Words shared by every room: what a prompt, a link, a node class and a queue item are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

NodeClass: TypeAlias = Any
"""A class that follows ComfyUI's conventions for nodes (``INPUT_TYPES``, ``FUNCTION``, ...)."""

NodeClasses: TypeAlias = Mapping[str, NodeClass]

Replacements: TypeAlias = dict[str, list[Json]]
"""What stands for old names of node classes. Clients read it; prompts run as they are sent.

ComfyUI since 0.33 at the latest (app/node_replace_manager.py) replaces them as well.
"""


class AnyType(str):
    """The type ``*`` of an input that takes everything: unequal to nothing."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __ne__(self, other: object) -> bool:
        return False


def is_link(value: object) -> bool:
    """Whether an input value is ``[node id, output index]``."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int | float)
    )


def is_output_node(node_class: NodeClass) -> bool:
    """Whether a node's run is a goal in itself."""
    return getattr(node_class, "OUTPUT_NODE", False) is True


def hidden_inputs(node_class: NodeClass) -> dict[str, str]:
    """Hidden inputs with their kinds; classes of the newer style wrap the kind into a list."""
    hidden = node_class.INPUT_TYPES().get("hidden", {})
    return {name: kind[0] if isinstance(kind, list) else kind for name, kind in hidden.items()}


def full_type_name(kind: type) -> str:
    """How ComfyUI names an exception's class: with its module, which builtins leave out."""
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


@dataclass(frozen=True)
class QueueItem:
    """One accepted prompt."""

    number: int
    prompt_id: str
    prompt: Json
    extra_data: Json
    outputs: list[str]
    sensitive: Json
    """API keys for partner nodes: kept apart so that neither queue nor history shows them."""

    @property
    def client_id(self) -> str | None:
        """Whose websocket gets the frames; None sends the shared ones to everyone."""
        return self.extra_data.get("client_id")

    def as_list(self) -> list[Any]:
        """The form that ``/queue`` and ``/history`` show."""
        return [self.number, self.prompt_id, self.prompt, self.extra_data, self.outputs]
