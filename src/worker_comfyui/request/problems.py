"""Collects what is wrong with a request, so that a caller sees all of it at once."""

from __future__ import annotations

from typing import Any

from worker_comfyui.errors import Detail, InvalidRequest, InvalidWorkflow, JobError

MAX_DETAILS = 50


class Problems:
    """Collects problems, so that a caller sees all of them at once."""

    def __init__(self) -> None:
        self.details: list[Detail] = []

    def add(self, path: str, message: str) -> None:
        """Note a problem; with the last that is told, the search for more ends."""
        self.details.append({"path": path, "message": message})
        if len(self.details) == MAX_DETAILS:
            raise self.error()

    def error(self) -> JobError:
        """Make the error that ends the job: INVALID_WORKFLOW if nothing else is wrong."""
        kind = InvalidWorkflow if all(map(_in_workflow, self.details)) else InvalidRequest
        return kind.of(self.details, at_least=len(self.details) == MAX_DETAILS)


def _in_workflow(problem: Detail) -> bool:
    path: str = problem["path"]
    return path == "workflow" or path.startswith("workflow.")


def kind_of(value: Any) -> str:
    """Say what JSON calls a value, with its article."""
    names = {bool: "a boolean", str: "a text", int: "a number", float: "a number", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")
