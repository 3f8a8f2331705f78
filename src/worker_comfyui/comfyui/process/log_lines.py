"""What ComfyUI prints, as records of a log: lines, their levels, whole tracebacks. Pure."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import NamedTuple

MAX_LINE_BYTES = 1 << 16
MAX_TRACEBACK_LINES = 500
MAX_MESSAGE_LINES = 30
"""Of the exception at a traceback's end."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""ComfyUI colours its log since 0.23, whether or not a terminal reads it."""
_LEVEL = re.compile(r"\[(DEBUG|DETAIL|INFO|WARNING|ERROR|CRITICAL)\] ")
"""And it prints the level since then (app/logger.py); before, there is none."""
_LEVELS = {"DETAIL": logging.DEBUG, **logging.getLevelNamesMapping()}
_TRACEBACK = re.compile(r"(\[\w+\] )?\s*(\+ Exception Group )?Traceback \(most recent call last\):")
_HEADING = ("Exception in thread ", "Exception ignored in", "Unhandled exception")
_GROUP_END = re.compile(r"\s+\+-+")
_CHAIN = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_FAILED = "!!! Exception during processing !!!"
"""Begins what ComfyUI logs of a node that failed (execution.py)."""


class Record(NamedTuple):
    """One record: a line, or a traceback of many."""

    level: int
    text: str


class Lines:
    """Cuts a stream of bytes into lines of bounded length."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Take the next bytes; return the lines that they complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = [_text(part) for line in lines for part in _parts(line)]
        while len(self._rest) >= MAX_LINE_BYTES:
            found.append(_text(self._rest[:MAX_LINE_BYTES]))
            self._rest = self._rest[MAX_LINE_BYTES:]
        return found

    def end(self) -> list[str]:
        """Return what came without the end of a line."""
        line, self._rest = self._rest, b""
        return [_text(line)]


def _parts(line: bytes) -> Iterator[bytes]:
    for start in range(0, len(line) or 1, MAX_LINE_BYTES):
        yield line[start : start + MAX_LINE_BYTES]


def _text(line: bytes) -> str:
    """Decode a line. Of a progress bar, which redraws itself, the last state is enough."""
    text = line.decode("utf-8", "replace").rstrip()
    return _COLOURS.sub("", text.rpartition("\r")[2]).rstrip()


class Records:
    """Puts the lines of a traceback together; any other line is a record of its own."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._message = 0
        self._gap = False

    @property
    def is_pending(self) -> bool:
        """Whether a traceback has begun; if nothing follows, it is complete."""
        return bool(self._lines)

    def feed(self, line: str) -> Iterator[Record]:
        """Take the next line; yield what is complete by now."""
        if self._lines and self._continues(line):
            self._lines.append(line)
            return
        yield from self.flush()
        if _TRACEBACK.match(line) or line.startswith(_HEADING):
            self._lines.append(line)
        elif line:
            yield Record(_level(line), line)

    def flush(self) -> Iterator[Record]:
        """Yield what has begun as it is."""
        if self._lines:
            yield Record(logging.ERROR, "\n".join(self._lines).rstrip())
        self._lines, self._message, self._gap = [], 0, False

    def _continues(self, line: str) -> bool:
        if len(self._lines) >= MAX_TRACEBACK_LINES:
            return False
        if line in _CHAIN:
            self._message, self._gap = 0, False
        elif not self._message:  # the frames, up to the first line without indentation
            is_frame = not line or line[0].isspace() or _TRACEBACK.match(line)
            self._message = 0 if is_frame and not _GROUP_END.fullmatch(line) else 1
        elif not line:
            self._gap = True
        else:  # the exception's text may have many lines
            self._message += 1
            return not self._gap and self._message <= MAX_MESSAGE_LINES
        return True


def _level(line: str) -> int:
    if found := _LEVEL.match(line):
        return _LEVELS[found[1]]
    return logging.ERROR if line.startswith(_FAILED) else logging.INFO


class Budget:
    """How much may be logged: a lot at once, less for long.

    Args:
        burst: Bytes at once.
        rate: Bytes a second for long.
        now: Seconds, of any clock.
    """

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self._burst = self._left = burst
        self._rate = rate
        self._at = now
        self.skipped_lines = 0
        self.skipped_bytes = 0

    def take(self, size: int, now: float) -> bool:
        """Tell whether this many bytes may be logged; if not, count them."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if size <= self._left:
            self._left -= size
            return True
        self.skipped_lines += 1
        self.skipped_bytes += size
        return False

    def note(self) -> str | None:
        """Say what was left out since the last note; None: nothing."""
        if not self.skipped_lines:
            return None
        text = (
            f"{self.skipped_lines} more lines of ComfyUI's "
            f"({self.skipped_bytes / 1_000_000:.1f} MB) are left out of the log"
        )
        self.skipped_lines = self.skipped_bytes = 0
        return text
