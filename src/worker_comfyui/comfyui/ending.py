"""How a prompt ended, from its history entry. Pure.

The entry's last status message decides: ComfyUI gives an interrupted prompt the same `status_str`
as a failed one (ComfyUI 0.3.64 execution.py; test_resources/comfyui/transcripts/).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from worker_comfyui.comfyui.entry import mapping
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
_DISK_FULL = (
    "no space left on device",  # the system's words for ENOSPC, in any exception
    "os error 28",  # the same in Rust, which writes safetensors
    "disk quota exceeded",
    "database or disk is full",
    "pytorchstreamwriter failed writing",
)
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)
"""Words in exceptions of any type, in lower case."""
_NO_GRAPH = (
    "reads the editor's workflow, which the request does not have: send the editor's own file "
    "(File → Save) as `workflow`, or beside the API format as `extra_data.extra_pnginfo.workflow`"
)
"""Some nodes look up other nodes in it by their titles, such as KJNodes' WidgetToString."""


def failure(entry: dict[str, Any]) -> JobError | None:
    """Return the error with which the prompt ended; None: it succeeded."""
    status = mapping(entry.get("status"))
    for kind, data in reversed(list(_messages(status))):
        if kind == "execution_success":
            return None
        if kind == "execution_interrupted":
            return _interrupted(data)
        if kind == "execution_error":
            return _failed(data, _has_graph(entry))
    if status.get("completed"):
        return None
    return ExecutionFailed("ComfyUI reports a failed workflow, but not why; see the worker's log")


def cached_nodes(entry: dict[str, Any]) -> set[str]:
    """Return the nodes whose results came from an earlier prompt."""
    return {
        str(node)
        for kind, data in _messages(mapping(entry.get("status")))
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


def _has_graph(entry: dict[str, Any]) -> bool:
    """Tell whether nodes could read the editor's file."""
    prompt = entry.get("prompt")  # number, id, nodes, extra data, ...
    extra = prompt[3] if isinstance(prompt, list) and len(prompt) > 3 else {}
    return "workflow" in mapping(mapping(extra).get("extra_pnginfo"))


def _failed(data: dict[str, Any], has_graph: bool) -> JobError:
    exception = str(data.get("exception_type") or "Exception")
    message = shortened(str(data.get("exception_message") or "").strip(), MAX_MESSAGE)
    detail: Detail = {
        "node_id": str(data.get("node_id")),
        "class_type": str(data.get("node_type")),
        "exception_type": exception,
        "message": message or exception,
    }
    where = f"node {detail['node_id']} ({detail['class_type']})"
    words = message.lower()
    if exception.endswith("MemoryError") or any(word in words for word in _OUT_OF_MEMORY):
        return OutOfMemory(f"{where} ran out of memory. {OutOfMemory.hint}", [detail])
    if any(word in words for word in _DISK_FULL):
        return DiskFull(f"{where} could not write: {message}. {DiskFull.hint}", [detail])
    if exception == "KeyError" and message == "'workflow'" and not has_graph:
        detail["message"] = _NO_GRAPH
        return ExecutionFailed(f"{where} {_NO_GRAPH}", [detail])
    return ExecutionFailed(f"{where} raised {exception}: {message}", [detail])
