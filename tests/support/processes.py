"""Waiting for processes, and looking at them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil


def wait_until(condition: Callable[[], bool], seconds: float = 15) -> bool:
    """Wait until the condition holds; return whether it does."""
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def number_in(path: Path) -> int:
    """Wait for a file with a number and the end of its line; return the number."""
    assert wait_until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())
