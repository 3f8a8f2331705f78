"""ComfyUI's websocket frames as typed events. Pure.

Frame types and their fields: ComfyUI 0.3.64 execution.py, main.py, comfy_execution/progress.py;
recorded in test_resources/comfyui/transcripts/.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NodesCached:
    """These nodes need no run: their results are still there from an earlier prompt."""

    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """ComfyUI turned to this node of the workflow."""

    node_id: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far each node is, 0 to 1; nodes not yet begun are absent."""

    nodes: dict[str, float]


@dataclass(frozen=True, slots=True)
class BranchBlocked:
    """A node stopped its branch with a message; the rest of the workflow goes on."""

    node_id: str
    class_type: str
    message: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The prompt has come to an end of some kind; history says which.

    `stored` tells whether its history entry is sure to be there: ComfyUI stores it between the
    execution_* frame and the last one, `executing` without a node. `well` tells whether the frame
    says that nothing failed.
    """

    stored: bool
    well: bool = False


@dataclass(frozen=True, slots=True)
class QueueLength:
    """So many prompts wait or run: ComfyUI says it of all, before the last frame of each."""

    prompts: int


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that came over the websocket: a preview of a sampler, or a result.

    `node_id` is None where the frame does not say: it is of the node that runs. Such a frame does
    not name its prompt either.
    """

    node_id: str | None
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Executed:
    """A node has ended, or was cached, and reports `output`, as it stands in history."""

    node_id: str
    output: dict[str, Any]


Event = (
    NodesCached | NodeStarted | Progress | BranchBlocked | QueueLength | Picture | Executed | Ended
)

_PICTURE, _PICTURE_WITH_METADATA = 1, 4  # ComfyUI 0.3.64 protocol.py
_FORMATS = {1: "image/jpeg", 2: "image/png"}  # server.py `send_image`


def parse(frame: str | bytes, prompt_id: str) -> Event | None:
    """Read one frame. None: it is of another prompt, or of no use to a worker, or not readable."""
    if isinstance(frame, bytes):
        return _picture(frame, prompt_id)
    try:
        message = json.loads(frame)
        kind, data = message["type"], message["data"]
        if kind == "status":
            return QueueLength(int(data["status"]["exec_info"]["queue_remaining"]))
        if data.get("prompt_id") != prompt_id:
            return None
        return _event(kind, data)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _event(kind: str, data: dict[str, Any]) -> Event | None:
    if kind == "executing":
        node = data["node"]
        return Ended(stored=True) if node is None else NodeStarted(_workflow_node(data))
    if kind == "progress_state":
        return Progress(_progress(data["nodes"]))
    if kind == "executed":
        output = data["output"]
        return Executed(_workflow_node(data), output) if isinstance(output, dict) else None
    if kind == "execution_cached":
        return NodesCached(tuple(map(str, data["nodes"])))
    if kind == "execution_error" and data.get("exception_type") == "ExecutionBlocked":
        return BranchBlocked(
            str(data["node_id"]), str(data.get("node_type")), str(data["exception_message"]).strip()
        )
    ends = kind in {"execution_success", "execution_error", "execution_interrupted"}
    return Ended(stored=False, well=kind == "execution_success") if ends else None


def _picture(frame: bytes, prompt_id: str) -> Picture | None:
    if len(frame) < 8:
        return None
    kind, number = struct.unpack_from(">II", frame)
    if kind == _PICTURE and number in _FORMATS:
        return Picture(None, _FORMATS[number], frame[8:])
    if kind != _PICTURE_WITH_METADATA:  # texts for the editor
        return None
    try:
        metadata = json.loads(frame[8 : 8 + number])
        if metadata["prompt_id"] != prompt_id or metadata["image_type"] not in _FORMATS.values():
            return None
        node_id = str(metadata.get("display_node_id") or metadata["node_id"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Picture(node_id, metadata["image_type"], frame[8 + number :])


def _workflow_node(data: dict[str, Any]) -> str:
    """Nodes made while the workflow runs show as the node that made them."""
    return str(data.get("display_node") or data["node"])


def _progress(nodes: dict[str, dict[str, Any]]) -> dict[str, float]:
    done: dict[str, float] = {}
    for node_id, state in nodes.items():
        shown = str(state.get("display_node_id") or node_id)
        part = 1.0 if state.get("state") == "finished" else _part(state)
        done[shown] = min(done.get(shown, 1.0), part)
    return done


def _part(state: dict[str, Any]) -> float:
    """Nodes report any numbers: NaN, more than the maximum, a maximum of 0."""
    value, maximum = float(state.get("value") or 0), float(state.get("max") or 0)
    part = value / maximum if maximum > 0 else 0.0
    return min(max(part, 0.0), 1.0) if math.isfinite(part) else 0.0
