"""Files below a folder, within a bound of entries and time: volumes may be slow and full."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

NEVER = frozenset(
    {
        *("venv", "site-packages", "node_modules", "__pycache__", "custom_nodes"),
        *("huggingface-cache", "fetched-models"),
    }
)
"""Folders that hold many files, and none that a loader could be told to load."""


class Budget:
    """How much may still be looked at; shared by all walks of one purpose."""

    def __init__(self, *, entries: int, seconds: float) -> None:
        self._entries = entries
        self._started = time.monotonic()
        self._ends = self._started + seconds
        self.seen = 0

    def is_spent(self) -> bool:
        """Whether to look no further."""
        return self.seen >= self._entries or time.monotonic() > self._ends

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._started


def files(
    root: Path, budget: Budget, *, leave_out: Callable[[str], bool] = lambda _: False
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield files with their path relative to the root, those near the root first.

    Links are followed, as ComfyUI follows them; each folder is entered once. What cannot be read
    is passed over.

    Args:
        root: Where to begin.
        budget: Ends the walk.
        leave_out: Asked for the relative path of each folder; true: it is not entered.
    """
    waiting = deque([(root, "")])
    entered: set[tuple[int, int]] = set()
    while waiting and not budget.is_spent():
        folder, prefix = waiting.popleft()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                for entry in listing:
                    budget.seen += 1
                    relative = prefix + entry.name
                    if not entry.is_dir():
                        yield relative, entry
                    elif _may_enter(entry.name) and not leave_out(relative):
                        waiting.append((Path(entry.path), f"{relative}/"))
                    if budget.is_spent():
                        return
        except OSError:
            continue


def _may_enter(name: str) -> bool:
    # Unfinished downloads lie in .cache (huggingface_hub's `--local-dir`).
    return name not in NEVER and (not name.startswith(".") or name == ".cache")
