"""What is wrong with a workflow, collected so that a caller sees all of it at once."""

from __future__ import annotations

from collections.abc import Collection

from worker_comfyui.errors import Detail, InvalidRequest
from worker_comfyui.wording import cut, likely, listed

MAX_DETAILS = 50


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
        return InvalidRequest.of(self.details, self.left_out)


def with_candidates(message: str, wanted: str, names: Collection[str], there: str) -> Detail:
    """Say what is wrong with a name, with the closest one that is right, or a list of some."""
    close = likely(wanted, names)
    if close:
        return {"did_you_mean": cut(close), "message": f"{message}; did you mean {cut(close)!r}?"}
    return {"message": f"{message}; {there} {listed(names)}" if names else message}
