"""ComfyUI is used by one job at a time, in the order in which they came."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from worker_comfyui.stop import Stop

LOOK_S = 0.1


class Turns:
    """Hands out turns, first come, first served."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def turn(self, stop: Stop) -> Iterator[None]:
        """Wait for the turn, and have it until the block ends.

        Raises:
            JobCancelled, TimedOut: it was time to stop before the turn came.
        """
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
        try:
            with self._changed:
                while self._waiting[0] is not ticket:
                    stop.check()
                    self._changed.wait(LOOK_S)
            yield
        finally:
            with self._changed:
                self._waiting.remove(ticket)
                self._changed.notify_all()
