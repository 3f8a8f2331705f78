"""Progress of the running prompt: the state of every node, told to the clients step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from local_comfyui.interrupt import Interrupt
from local_comfyui.prompt import Json

Preview = tuple[str, Any, int | None]
"""Image format, Pillow image, longest side or None."""


class EventSink(Protocol):
    """Where events go: to one client's socket, or to all sockets when ``client_id`` is None."""

    def send(self, event: str, data: Json, client_id: str | None) -> None:
        """Send a text frame."""

    def send_preview(self, preview: Preview, client_id: str | None) -> None:
        """Send a preview to clients that did not ask for its metadata."""

    def send_preview_with_metadata(
        self, preview: Preview, metadata: Json, client_id: str | None
    ) -> None:
        """Send a preview to a client that asked for its metadata."""


@dataclass
class _NodeState:
    value: float
    max: float
    state: str


class Progress:
    """The progress of one prompt (ComfyUI 0.3.64 ``comfy_execution/progress.py``)."""

    def __init__(
        self, prompt_id: str, client_id: str | None, sink: EventSink, interrupt: Interrupt
    ) -> None:
        self.prompt_id = prompt_id
        self._client_id = client_id
        self._sink = sink
        self._interrupt = interrupt
        self._states: dict[str, _NodeState] = {}
        self.node_id: str | None = None

    def start(self, node_id: str) -> None:
        """A node begins."""
        self.node_id = node_id
        self._states[node_id] = _NodeState(0.0, 1.0, "running")
        self._send_states()

    def finish(self, node_id: str) -> None:
        """A node has ended, or was served from the cache (then it never began)."""
        state = self._states.setdefault(node_id, _NodeState(1, 1, "finished"))
        state.value, state.state = state.max, "finished"
        self._send_states()

    def update(self, value: float, maximum: float, preview: Preview | None) -> None:
        """The running node reports a step.

        Raises:
            InterruptProcessingException: The prompt was interrupted.
        """
        self._interrupt.raise_if_requested()
        if self.node_id is None:
            return
        self._states[self.node_id] = _NodeState(value, maximum, "running")
        self._send_states()
        if preview is not None:
            metadata = _names(self.node_id, self.prompt_id)
            self._sink.send_preview_with_metadata(preview, metadata, self._client_id)
        data = {
            "value": value,
            "max": maximum,
            "prompt_id": self.prompt_id,
            "node": self.node_id,
        }
        self._sink.send("progress", data, self._client_id)
        if preview is not None:
            self._sink.send_preview(preview, self._client_id)

    def _send_states(self) -> None:
        nodes = {
            node_id: {
                "value": state.value,
                "max": state.max,
                "state": state.state,
                **_names(node_id, self.prompt_id),
            }
            for node_id, state in self._states.items()
        }
        data = {"prompt_id": self.prompt_id, "nodes": nodes}
        self._sink.send("progress_state", data, self._client_id)


def _names(node_id: str, prompt_id: str) -> Json:
    """The ids of a node in a frame; they differ only inside expanded subgraphs."""
    return {
        "node_id": node_id,
        "prompt_id": prompt_id,
        "display_node_id": node_id,
        "parent_node_id": None,
        "real_node_id": node_id,
    }
