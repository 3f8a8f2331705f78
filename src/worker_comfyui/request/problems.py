"""Collects what is wrong with a request, so that a caller sees all of it at once."""

from __future__ import annotations

from typing import Any

from worker_comfyui.errors import Detail, InvalidRequest, InvalidWorkflow, JobError

MAX_DETAILS = 50


class Problems:
    """Collects problems, so that a caller sees all of them at once.

    Args:
        kind: Of the error that they make; None: INVALID_WORKFLOW if nothing but the workflow is
            wrong, else INVALID_REQUEST.
    """

    def __init__(self, kind: type[JobError] | None = None) -> None:
        self.details: list[Detail] = []
        self.left_out = 0
        self._kind = kind
        self._seen: set[str] = set()

    def add(self, path: str, message: str) -> None:
        """Note a problem of a field; with the last that is told, the search for more ends."""
        self.details.append({"path": path, "message": message})
        if len(self.details) == MAX_DETAILS:
            raise self.error(at_least=True)

    def note(self, detail: Detail) -> None:
        """Note a problem once, and go on; those past `MAX_DETAILS` are only counted."""
        key = repr(sorted(detail.items(), key=lambda item: item[0]))
        if key in self._seen:
            return
        if len(self.details) >= MAX_DETAILS:
            self.left_out += 1
            return
        self._seen.add(key)
        self.details.append(detail)

    def error(self, *, at_least: bool = False) -> JobError:
        """Make the error that ends the job; there must be a problem."""
        is_workflow = all(_in_workflow(detail) for detail in self.details)
        kind = self._kind or (InvalidWorkflow if is_workflow else InvalidRequest)
        return kind.of(self.details, self.left_out, at_least=at_least)


def _in_workflow(problem: Detail) -> bool:
    path: str = problem["path"]
    return path == "workflow" or path.startswith("workflow.")


def kind_of(value: Any) -> str:
    """Say what JSON calls a value, with its article."""
    names = {bool: "a boolean", str: "a text", int: "a number", float: "a number", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")
