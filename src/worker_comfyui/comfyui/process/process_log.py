"""Reads what a ComfyUI prints: into the worker's log, and into a tail for its diagnosis."""

from __future__ import annotations

import fcntl
import logging
import os
import select
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import IO

from worker_comfyui.comfyui.process.log_lines import Budget, Lines, Record, Records

log = logging.getLogger("comfyui")

TAIL_LINES = 40
MAX_TAIL_CHARACTERS = 1000
"""Of each line: the tail becomes part of an error."""
BURST_BYTES = 1_000_000
BYTES_PER_SECOND = 100_000
"""A node may print 10 MB a second; the platform's log has a limit, and so has a reader."""
QUIET_S = 0.05
"""Lines of one print come together. After this, a traceback has no further line."""
LOOK_S = 0.05
WAKE_S = 0.0002
"""The reader is about to wake: the next job waits for the line."""
_READ_BYTES = 1 << 16


class ProcessLog:
    """Reads a pipe to its end, in a thread of its own.

    Args:
        stream: The pipe.
        on_error: Called with the text of each record of level ERROR, such as a traceback.
    """

    def __init__(self, stream: IO[bytes], on_error: Callable[[str], None] = lambda _: None) -> None:
        self._stream = stream
        self._on_error = on_error
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._records = Records()
        now = time.monotonic()
        self._budget = Budget(BURST_BYTES, BYTES_PER_SECOND, now)
        self._errors = Budget(BURST_BYTES, BYTES_PER_SECOND, now)
        self._waiting = threading.Event()
        self._thread = threading.Thread(target=self._read, name="comfyui-log", daemon=True)
        self._thread.start()

    def tail(self) -> list[str]:
        """Return the last lines so far."""
        return list(self._tail)

    def join(self, timeout_s: float) -> None:
        """Wait for the pipe's end."""
        self._thread.join(timeout_s)

    def drain(self, timeout_s: float) -> None:
        """Wait until all that has been printed by now is logged."""
        give_up_at = time.monotonic() + timeout_s
        while self._thread.is_alive() and time.monotonic() < give_up_at:
            # In this order: the reader counts as busy before it reads.
            if self._unread():
                time.sleep(WAKE_S)
            elif self._waiting.wait(LOOK_S):
                return

    def _unread(self) -> int:
        try:
            answer = fcntl.ioctl(self._stream, termios.FIONREAD, b"\0" * 4)
        except (OSError, ValueError):  # closed meanwhile
            return 0
        return int(struct.unpack("i", answer)[0])

    def _read(self) -> None:
        lines = Lines()
        poll = select.poll()
        poll.register(self._stream, select.POLLIN)
        with self._stream:
            while True:
                while not poll.poll(0):
                    self._pause(poll)
                self._waiting.clear()
                data = os.read(self._stream.fileno(), _READ_BYTES)
                if not data:
                    break
                self._take(lines.feed(data))
        self._take(lines.end())
        self._log(self._records.flush())

    def _pause(self, poll: select.poll) -> None:
        """Wait for more. A traceback is complete when nothing follows."""
        if self._records.is_pending and not poll.poll(QUIET_S * 1000):
            self._log(self._records.flush())
        if not self._records.is_pending:
            self._waiting.set()
            skipped = self._budget.skipped_lines or self._errors.skipped_lines
            if not poll.poll(1000 if skipped else None):
                self._note(self._budget)
                self._note(self._errors)

    def _take(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line:
                self._tail.append(line[:MAX_TAIL_CHARACTERS])
            self._log(self._records.feed(line))

    def _log(self, records: Iterable[Record]) -> None:
        for level, text in records:
            is_error = level >= logging.ERROR
            if is_error:
                self._on_error(text)
            budget = self._errors if is_error else self._budget
            if budget.take(len(text), time.monotonic()):
                self._note(budget)
                log.log(level, "%s", text)

    def _note(self, budget: Budget) -> None:
        if note := budget.note():
            log.warning("%s", note)
