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
nothing meanwhile, the one before does not begin its delivery."""


class Turns:
    """Hands out turns, first come, first served."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def turn(self, stop: Stop) -> Iterator[ExitStack]:
        """Wait for the turn, and have it until the block and its leftovers have ended.

        What is put on the stack is done when the block ends, in reverse order, before the next job
        has its turn. After a deadline it is done in a thread: the caller hears of it at once,
        though ComfyUI may take a while to come to rest.

        Raises:
            JobCancelled, TimedOut: it was time to stop before the turn came.
        """
        # Two stacks: the inner one is emptied in between where the job runs a second time.
        leftovers = ExitStack()
        leftovers.callback(self._leave, self._come(stop))
        try:
            yield leftovers.enter_context(ExitStack())
        except TimedOut:
            _in_a_thread(leftovers)
            raise
        except BaseException:
            leftovers.close()
            raise
        leftovers.close()

    def _come(self, stop: Stop) -> object:
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while self._waiting[0] is not ticket:
                    stop.check()
                    self._changed.wait(LOOK_S)
            except BaseException:
                self._waiting.remove(ticket)
                self._changed.notify_all()
                raise
        return ticket

    def _leave(self, ticket: object) -> None:
        with self._changed:
            self._waiting.remove(ticket)
            self._changed.notify_all()
            somebody_waits = bool(self._waiting)
        if somebody_waits:
            time.sleep(HANDOVER_S)


def _in_a_thread(leftovers: ExitStack) -> None:
    def close() -> None:
        try:
            leftovers.close()
        except Exception:
            log.exception("a job past its deadline left something behind")

    context = contextvars.copy_context()  # its log lines still belong to the job
    threading.Thread(target=context.run, args=(close,), name="leftovers", daemon=True).start()
