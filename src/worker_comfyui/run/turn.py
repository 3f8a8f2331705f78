"""ComfyUI is used by one job at a time, in the order in which they came."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from worker_comfyui.errors import TimedOut
from worker_comfyui.stop import Stop

log = logging.getLogger(__name__)

LOOK_S = 0.1
HANDOVER_S = 0.003
"""One thread of Python runs at a time: while the next job is brought to ComfyUI, which does
nothing meanwhile, the one before does not go on."""


class Turns:
    """Hands out turns, first come, first served."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[Turn] = deque()

    @contextmanager
    def turn(self, stop: Stop) -> Iterator[Turn]:
        """Wait for the turn, and have it until the block ends, or `Turn.end` is called.

        After a deadline its leftovers are done in a thread: the caller hears of it at once, though
        ComfyUI may take a while to come to rest.

        Raises:
            JobCancelled, TimedOut: it was time to stop before the turn came.
        """
        turn = Turn(self, stop)
        turn.begin()
        try:
            yield turn
        except TimedOut:
            _in_a_thread(turn)
            raise
        except BaseException:
            turn.end()
            raise
        turn.end()

    def come(self, turn: Turn, stop: Stop, *, first: bool) -> None:
        """Wait until nobody is before this one.

        Args:
            turn: Who comes.
            stop: When to give up.
            first: Go before all who wait.
        """
        with self._changed:
            self._queue.insert(1 if first else len(self._queue), turn)
            try:
                while self._queue[0] is not turn:
                    stop.check()
                    self._changed.wait(LOOK_S)
            except BaseException:
                self._queue.remove(turn)
                self._changed.notify_all()
                raise

    def leave(self, turn: Turn) -> None:
        """Let the next one come."""
        with self._changed:
            self._queue.remove(turn)
            self._changed.notify_all()
            somebody_waits = bool(self._queue)
        if somebody_waits:
            time.sleep(HANDOVER_S)


class Turn:
    """One job's turn, which can end early, and begin again.

    Attributes:
        ends: What must be done before ComfyUI is another job's, in reverse order.
    """

    def __init__(self, turns: Turns, stop: Stop) -> None:
        self.ends = ExitStack()
        self._turns = turns
        self._stop = stop
        self._is_on = False
        self._had_one = False

    def begin(self) -> None:
        """Wait for the turn; do what a run before left, if it is this job's still.

        A job that had its turn goes before those that had none.

        Raises:
            JobCancelled, TimedOut: it was time to stop before it came.
        """
        if self._is_on:
            self.ends.close()
            return
        self._stop.phase("wait")
        self._turns.come(self, self._stop, first=self._had_one)
        self._is_on = self._had_one = True
        self._stop.phase("execution")

    def end(self) -> None:
        """Do what must be done, and let the next one come; nothing if it has ended."""
        if not self._is_on:
            return
        self._is_on = False
        try:
            self.ends.close()
        finally:
            self._turns.leave(self)


def _in_a_thread(turn: Turn) -> None:
    def end() -> None:
        try:
            turn.end()
        except Exception:
            log.exception("a job past its deadline left something behind")

    context = contextvars.copy_context()  # its log lines still belong to the job
    threading.Thread(target=context.run, args=(end,), name="leftovers", daemon=True).start()
