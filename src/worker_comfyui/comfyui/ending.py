"""How a prompt ended, from its history entry. Pure.

The entry's last status message decides: ComfyUI gives an interrupted prompt the same `status_str`
as a failed one (ComfyUI 0.3.64 execution.py; test_resources/comfyui/transcripts/).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from worker_comfyui.errors import (
    Detail,
    DiskFull,
    ExecutionFailed,
    ExecutionInterrupted,
    JobError,
    OutOfMemory,
)
from worker_comfyui.wording import shortened

MAX_MESSAGE = 1000
_DISK_FULL = "No space left on device"  # the system's words for ENOSPC, in any exception
_OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError")
"""Exceptions, without their modules. Newer versions also wrap the device's own words, such as
`CUDA error: out of memory`, in an exception for everything."""


def failure(entry: dict[str, Any]) -> JobError | None:
    """Return the error with which the prompt ended; None: it succeeded."""
    status = entry.get("status")
    status = status if isinstance(status, dict) else {}
    for kind, data in reversed(list(_messages(status))):
        if kind == "execution_success":
            return None
        if kind == "execution_interrupted":
            return _interrupted(data)
        if kind == "execution_error" and data.get("exception_type") != "ExecutionBlocked":
            return _failed(data)
    if status.get("completed"):
        return None
    return ExecutionFailed("ComfyUI reports a failed workflow, but not why; see the worker's log")


def cached_nodes(entry: dict[str, Any]) -> set[str]:
    """Return the nodes whose results came from an earlier prompt."""
    status = entry.get("status")
    return {
        str(node)
        for kind, data in _messages(status if isinstance(status, dict) else {})
        if kind == "execution_cached" and isinstance(data.get("nodes"), list)
        for node in data["nodes"]
    }


def _messages(status: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    messages = status.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, list) and len(message) == 2 and isinstance(message[1], dict):
            yield str(message[0]), message[1]


def _interrupted(data: dict[str, Any]) -> ExecutionInterrupted:
    node_id, class_type = str(data.get("node_id")), str(data.get("node_type"))
    message = f"interrupted at node {node_id} ({class_type})"
    detail: Detail = {"node_id": node_id, "class_type": class_type, "message": message}
    return ExecutionInterrupted(message, [detail])


def _failed(data: dict[str, Any]) -> JobError:
    exception = str(data.get("exception_type") or "Exception")
    message = shortened(str(data.get("exception_message") or "").strip(), MAX_MESSAGE)
    detail: Detail = {
        "node_id": str(data.get("node_id")),
        "class_type": str(data.get("node_type")),
        "exception_type": exception,
        "message": message or exception,
    }
    where = f"node {detail['node_id']} ({detail['class_type']})"
    if exception.rpartition(".")[2] in _OUT_OF_MEMORY or "out of memory" in message.lower():
        return OutOfMemory(f"{where} ran out of memory. {OutOfMemory.hint}", [detail])
    if _DISK_FULL in message:
        return DiskFull(f"{where} could not write: {message}. {DiskFull.hint}", [detail])
    return ExecutionFailed(f"{where} raised {exception}: {message}", [detail])
