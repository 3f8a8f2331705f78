"""The value with which a node blocks the branch behind it (ComfyUI's ``ExecutionBlocker``)."""

from __future__ import annotations

from typing import Any


class ExecutionBlocker:
    """Returned by a node in place of an output: the nodes that take it are not called."""

    def __init__(self, message: str | None) -> None:
        """Block silently (None), or with a message that the client gets."""
        self.message = message


def blocked(keywords: dict[str, Any], *, as_lists: bool) -> ExecutionBlocker | None:
    """The first blocker among the arguments of a call."""
    for value in keywords.values():
        for element in value if as_lists and isinstance(value, list) else [value]:
            if isinstance(element, ExecutionBlocker):
                return element
    return None
