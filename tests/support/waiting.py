"""Waiting for what happens elsewhere: in another thread, process or server."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.support.comfyui import REAL_COMFYUI

WAIT_S = 120 if REAL_COMFYUI else 40
"""For anything that may include a restart of ComfyUI; the real one takes its time."""
LOOK_S = 0.01


def comes_true(condition: Callable[[], object], seconds: float = WAIT_S) -> bool:
    """Wait until the condition holds; tell whether it does in time."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(LOOK_S)
    return True


def wait_until(
    condition: Callable[[], object],
    seconds: float = WAIT_S,
    why_not: Callable[[], str] = lambda: "",
) -> None:
    """Wait until the condition holds; AssertionError, with `why_not()`, if it does not in time."""
    assert comes_true(condition, seconds), f"it did not happen in {seconds} s\n{why_not()}"
