"""What a caller who watches sees beside the percent (`output.live`): a preview, finished files."""

from __future__ import annotations

import time
from collections.abc import Callable

from worker_comfyui.comfyui import outputs
from worker_comfyui.comfyui.events import Event, Executed, NodeStarted, Picture
from worker_comfyui.comfyui.tracking import Update
from worker_comfyui.media.output_file import OutputFile
from worker_comfyui.media.preview import Preview, preview

INTERVAL_S = 1.0
MAX_FILES = 100
MAX_NAME = 300


class Live:
    """Follows one prompt.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._state: Update | None = None
        self._files: dict[str, None] = {}
        self._preview: Preview | None = None
        self._waiting: bytes | None = None
        self._next_at = clock()

    def update(
        self, event: Event, state: Update | None, kept: OutputFile | None = None
    ) -> Update | None:
        """Take an event; return the new state, or None where nothing has changed for the caller.

        Args:
            event: What happened.
            state: How far the job is, where the event has changed it.
            kept: The result that the event is, if it is one.
        """
        if state is not None:
            self._state = state
        changed = self._take_files(event, kept)
        if isinstance(event, Picture) and kept is None:
            self._waiting = event.data
        # Samplers send a frame a step. The last one of a node is shown in any case.
        if self._clock() >= self._next_at or isinstance(event, NodeStarted):
            changed |= self._take_preview()
        if self._state is None or not (changed or state):
            return None
        shown: Update = {**self._state}
        if self._preview:
            shown["preview"] = self._preview
        if self._files:
            shown["files"] = list(self._files)
        return shown

    def _take_files(self, event: Event, kept: OutputFile | None) -> bool:
        names = [kept.name] if kept else []
        if isinstance(event, Executed):
            reported = outputs.collect({"outputs": {event.node_id: event.output}}, ())
            names = [file.name for file in reported.artifacts]
        before = len(self._files)
        for name in names:
            if len(self._files) < MAX_FILES and len(name) <= MAX_NAME:
                self._files[name] = None
        return len(self._files) > before

    def _take_preview(self) -> bool:
        frame, self._waiting = self._waiting, None
        if frame is None:
            return False
        self._next_at = self._clock() + INTERVAL_S
        made = preview(frame)
        if made is None:
            return False
        self._preview = made
        return True
