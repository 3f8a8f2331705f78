"""Logging as ComfyUI does it: plain lines to stderr, the last ones kept for ``/internal/logs``."""

from __future__ import annotations

import logging
import sys
from collections import deque
from datetime import UTC, datetime
from typing import TypedDict

KEPT_ENTRIES = 300


class LogEntry(TypedDict):
    """One line: when it was written, and its text."""

    t: str
    m: str


class LogBuffer(logging.Handler):
    """Keeps the last lines in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: deque[LogEntry] = deque(maxlen=KEPT_ENTRIES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        now = datetime.now(UTC).isoformat()
        self.entries.append({"t": now, "m": self.format(record) + "\n"})


def set_up(level: str, *, to_stdout: bool) -> LogBuffer:
    """Send the log to stderr, or with ``to_stdout`` all below ERROR to stdout.

    Raises:
        ValueError: The level is none of Python's.
    """
    buffer = LogBuffer()
    root = logging.getLogger()
    root.setLevel(level)
    errors = logging.StreamHandler(sys.stderr)
    root.addHandler(errors)
    if to_stdout:
        errors.setLevel(logging.ERROR)
        others = logging.StreamHandler(sys.stdout)
        others.addFilter(lambda record: record.levelno < logging.ERROR)
        root.addHandler(others)
    root.addHandler(buffer)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    return buffer
