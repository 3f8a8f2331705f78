"""What is wrong with a workflow, collected so that a caller sees all of it at once."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from worker_comfyui.errors import Detail, InvalidRequest, sentence

MAX_DETAILS = 50
MAX_TEXT = 300


class Problems:
    """Collects details; those past `MAX_DETAILS` are only counted."""

    def __init__(self) -> None:
        self.details: list[Detail] = []
        self.left_out = 0
        self._seen: set[str] = set()

    def add(self, detail: Detail) -> None:
        """Remember a problem once."""
        key = repr(sorted(detail.items(), key=lambda item: item[0]))
        if key in self._seen:
            return
        if len(self.details) >= MAX_DETAILS:
            self.left_out += 1
            return
        self._seen.add(key)
        self.details.append(detail)

    def error(self) -> InvalidRequest:
        """Make the error of all problems; there must be one."""
        return refusal(self.details, self.left_out)


def refusal(details: Sequence[Detail], left_out: int = 0) -> InvalidRequest:
    """Make one error of one or more details; the message has the first one."""
    first = details[0]
    message = sentence(first) if "node_id" in first else f"{first['path']}: {first['message']}"
    rest = len(details) - 1 + left_out
    if rest:
        message += f" (and {rest} more {'problem' if rest == 1 else 'problems'}: see `details`)"
    return InvalidRequest(message, details)


def at(path: str, message: str) -> InvalidRequest:
    """Make the error of a single problem at a place in the request."""
    return refusal([{"path": path, "message": message}])


def cut(value: Any) -> str:
    """Shorten a caller's text for a message."""
    text = value if isinstance(value, str) else str(value)[: MAX_TEXT + 1]
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


def listed(names: Iterable[str], limit: int = 10) -> str:
    """Name the first few, and count the rest."""
    every = list(names)
    shown = ", ".join(repr(cut(name)) for name in every[:limit])
    rest = len(every) - limit
    return f"{shown} and {rest} more" if rest > 0 else shown


def with_candidates(message: str, wanted: str, names: Collection[str], there: str) -> Detail:
    """Say what is wrong with a name, with the closest one that is right, or a list of some."""
    close = difflib.get_close_matches(cut(wanted), [cut(name) for name in names], n=1, cutoff=0.6)
    if close:
        return {"did_you_mean": close[0], "message": f"{message}; did you mean {close[0]!r}?"}
    return {"message": f"{message}; {there} {listed(names)}" if names else message}
