"""Why a job should stop early: the platform cancelled it, or its deadline passed."""

from __future__ import annotations

import time
from collections.abc import Callable

from worker_comfyui.errors import TimedOut


class JobCancelled(Exception):
    """The platform stopped the job. Nobody waits for a result any more."""


class Stop:
    """Asked regularly by everything that may take long."""

    def __init__(self, cancelled: Callable[[], bool]) -> None:
        self.cancelled = cancelled
        self._deadline = float("inf")
        self._timeout_s = float("inf")

    def start_clock(self, timeout_s: float) -> None:
        """Let the deadline be `timeout_s` seconds from now."""
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s

    def is_due(self) -> bool:
        """Tell whether to stop now."""
        return self.cancelled() or time.monotonic() > self._deadline

    def check(self) -> None:
        """Raise if it is time to stop.

        Raises:
            JobCancelled: the platform cancelled the job.
            TimedOut: the deadline passed.
        """
        if self.cancelled():
            raise JobCancelled
        if time.monotonic() > self._deadline:
            raise TimedOut(f"the workflow had not ended after {self._timeout_s:g} s")
