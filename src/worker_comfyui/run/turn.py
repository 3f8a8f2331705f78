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
HANDOVER_S = 0.006
"""One thread of Python runs at a time: while the next job is brought to ComfyUI, which does
nothing meanwhile, the one before does not go on. From a turn to its first node it is 3 to 5 ms."""


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
        turn = Turn(self)
        self._come(turn, stop)
        try:
            yield turn
        except TimedOut:
            _in_a_thread(turn)
            raise
        except BaseException:
            turn.end()
            raise
        turn.end()

    def _come(self, turn: Turn, stop: Stop) -> None:
        with self._changed:
            self._queue.append(turn)
            try:
                while self._queue[0] is not turn:
                    stop.check()
                    self._changed.wait(LOOK_S)
            except BaseException:
                self._queue.remove(turn)
                self._changed.notify_all()
                raise

    def leave(self, turn: Turn) -> None:
        """Let the next one come; a turn that has ended already is none."""
        with self._changed:
            if turn not in self._queue:
                return
            self._queue.remove(turn)
            self._changed.notify_all()
            somebody_waits = bool(self._queue)
        if somebody_waits:
            time.sleep(HANDOVER_S)


class Turn:
    """One job's turn.

    Attributes:
        ends: What must be done before ComfyUI is another job's, in reverse order.
    """

    def __init__(self, turns: Turns) -> None:
        self.ends = ExitStack()
        self._turns = turns

    def end(self) -> None:
        """Do what must be done, and let the next one come; nothing if it has ended."""
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
    # Not a daemon: a worker that ends brings back first what was put aside.
    threading.Thread(target=context.run, args=(end,), name="leftovers").start()
