"""Waiting for processes, and looking at them."""

from __future__ import annotations

from pathlib import Path

import psutil

from tests.support.waiting import wait_until


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def number_in(path: Path) -> int:
    """Wait for a file with a number and the end of its line; return the number."""
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())
