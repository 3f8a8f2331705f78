"""Watches one run of ComfyUI: until it is ready, then until it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from worker_comfyui.comfyui.client import ComfyClient
from worker_comfyui.comfyui.process.diagnosis import Ended, death
from worker_comfyui.comfyui.process.incarnation import Run
from worker_comfyui.comfyui.process.liveness import Liveness, Look
from worker_comfyui.config import Settings
from worker_comfyui.errors import ComfyUnavailable

log = logging.getLogger(__name__)

LOOK_S = 0.2
PING_EVERY_S = 2.0
PING_TIMEOUT_S = 10.0
DESCRIPTORS_KEPT = 8
"""With fewer left, ComfyUI can hardly take a connection, let alone run a workflow."""
TELL_AFTER_S = 3.0
TELL_EVERY_S = 30.0


class Watch:
    """Watches one run.

    Args:
        settings: All settings.
        run: What to watch.
        pause: Waits so many seconds; returns why the run is to end now, if it is.
    """

    def __init__(
        self, settings: Settings, run: Run, pause: Callable[[float], Ended | None]
    ) -> None:
        self._settings = settings
        self._run = run
        self._pause = pause
        self._started = time.monotonic()
        self._tell_at = self._started + TELL_AFTER_S

    def until_ready(self) -> Ended | dict[str, Any]:
        """Wait until it can be used; return what it says of itself, or why it has ended."""
        looks = 0
        while True:
            pause_s = self._settings.comfy_api_available_interval_ms / 1000
            if ended := self._pause(pause_s) or self._death():
                return ended
            looks += 1
            try:
                return self._description()
            except ComfyUnavailable as error:
                self._tell(error)
            seconds = time.monotonic() - self._started
            if limit := self._limit_reached(looks, seconds):
                where = self._whose()
                return Ended(f"{where} was not ready after {seconds:.0f} s, as {limit} demands")

    def until_end(self) -> Ended:
        """Wait until it ends, freezes, or must end."""
        liveness = Liveness(self._settings.comfy_hang_timeout_s)
        every_s = min(PING_EVERY_S, self._settings.comfy_hang_timeout_s / 2)
        looked = time.monotonic()
        starved = False
        while True:
            if ended := self._pause(LOOK_S) or self._death():
                return ended
            if time.monotonic() - looked < every_s:
                continue
            looked = time.monotonic()
            # Twice in a row: a workflow may come close for a moment.
            was_starved, starved = starved, self.lacks_descriptors()
            if was_starved and starved:
                return Ended("ComfyUI has no file descriptors left", run_again=False)
            if starved:  # then it cannot answer, and a node may be about to close them
                continue
            if silent_s := liveness.frozen_after(self._look()):
                return Ended(f"{self._whose()} gave no answer for {silent_s:.0f} s")

    def lacks_descriptors(self) -> bool:
        """Tell whether its nodes have opened all the files that it may open."""
        left = self._run.descriptors_left()
        return left is not None and left < DESCRIPTORS_KEPT

    def _client(self) -> closing[ComfyClient]:
        # A new connection each time: that is what a job needs as well.
        timeout_s = min(PING_TIMEOUT_S, self._settings.comfy_hang_timeout_s)
        return closing(ComfyClient(self._run.incarnation.address, timeout_s=timeout_s))

    def _description(self) -> dict[str, Any]:
        with self._client() as client:
            description = client.system_stats()
        if not self._run.is_ours():
            raise ComfyUnavailable("another process answers on ComfyUI's port")
        return description

    def _look(self) -> Look:
        with self._client() as client:
            answered = client.is_ready()
        activity = None if answered else self._run.activity()
        return Look(time.monotonic(), answered, activity)

    def _death(self) -> Ended | None:
        process = self._run.process
        code = process.wait(0) if process else None
        return death(code, process.last_lines()) if process and code is not None else None

    def _limit_reached(self, looks: int, seconds: float) -> str | None:
        """Name the setting by which it is too late; None: it is not."""
        if seconds > self._settings.comfy_start_timeout_s:
            return "COMFY_START_TIMEOUT_S"
        retries = self._settings.comfy_api_available_max_retries
        return "COMFY_API_AVAILABLE_MAX_RETRIES" if 0 < retries <= looks else None

    def _tell(self, error: ComfyUnavailable) -> None:
        """Say now and then that nobody answers, where nothing else would say it."""
        now = time.monotonic()
        if self._run.process is None and now >= self._tell_at:
            self._tell_at = now + TELL_EVERY_S
            left = self._settings.comfy_start_timeout_s - (now - self._started)
            log.warning("%s: %s; waiting for %.0f s more", self._whose(), error.message, left)

    def _whose(self) -> str:
        if self._run.process:
            return "ComfyUI"
        return f"the ComfyUI at {self._run.incarnation.address} (COMFY_HOST)"
