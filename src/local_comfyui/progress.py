"""Progress of the running prompt, told to the clients step by step; and the way to stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from local_comfyui.prompt import Json
from local_comfyui.websocket import Preview, WebSockets

Report = Callable[[float, float, Preview | None], None]
"""Told a step of the running node: its number, how many there are, and a preview image."""


class InterruptProcessingException(Exception):
    """The running prompt was interrupted."""


class Interrupt(threading.Event):
    """One flag for the whole server, as in ComfyUI: it stops whatever runs when it is read."""

    def obey(self) -> None:
        """Stop if a stop was asked for.

        Raises:
            InterruptProcessingException: It was; the request is now forgotten.
        """
        if self.is_set():
            self.clear()
            raise InterruptProcessingException


class Progress:
    """The progress of one prompt (ComfyUI 0.3.64 ``comfy_execution/progress.py``)."""

    def __init__(
        self, prompt_id: str, client_id: str | None, sockets: WebSockets, interrupt: Interrupt
    ) -> None:
        self._prompt_id = prompt_id
        self._client_id = client_id
        self._sockets = sockets
        self._interrupt = interrupt
        self._states: dict[str, Json] = {}
        self._node_id = ""

    def start(self, node_id: str) -> None:
        """A node begins."""
        self._node_id = node_id
        self._set(node_id, 0.0, 1.0, "running")

    def finish(self, node_id: str) -> None:
        """A node has ended, or was served from the cache (then it never began)."""
        maximum = self._states.get(node_id, {"max": 1})["max"]
        self._set(node_id, maximum, maximum, "finished")

    def update(self, value: float, maximum: float, preview: Preview | None) -> None:
        """The running node reports a step.

        Raises:
            InterruptProcessingException: The prompt was interrupted.
        """
        self._interrupt.obey()
        self._set(self._node_id, value, maximum, "running")
        with_metadata = self._sockets.wants_preview_metadata(self._client_id)
        if preview is not None and with_metadata:
            self._sockets.send_preview(preview, self._client_id, self._names(self._node_id))
        data: Json = {"prompt_id": self._prompt_id, "node": self._node_id}
        self._sockets.send("progress", {"value": value, "max": maximum, **data}, self._client_id)
        if preview is not None and not with_metadata:  # ComfyUI's order: before, or after
            self._sockets.send_preview(preview, self._client_id)

    def _set(self, node_id: str, value: float, maximum: float, state: str) -> None:
        names = self._names(node_id)
        self._states[node_id] = {"value": value, "max": maximum, "state": state, **names}
        data = {"prompt_id": self._prompt_id, "nodes": self._states}
        self._sockets.send("progress_state", data, self._client_id)

    def _names(self, node_id: str) -> Json:
        """The ids of a node in a frame; they differ only inside expanded subgraphs."""
        ids = dict.fromkeys(("node_id", "display_node_id", "real_node_id"), node_id)
        return {**ids, "prompt_id": self._prompt_id, "parent_node_id": None}
