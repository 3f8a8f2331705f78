"""Which models are in use by any worker that shares the store: those are never deleted."""

from __future__ import annotations

import json
import threading
import uuid
from pathlib import Path
from typing import Self

from worker_comfyui.models.transfer.lease import BEAT_S, STALE_S, Heartbeat, age, is_gone, me

MANY_BEATS = 10
"""A worker that is only slow must not lose its models: so many times a lease's patience."""


class Use:
    """What one job uses, until it is closed; as a context manager, at its end."""

    def __init__(self, folder: Path, *, beat_s: float = BEAT_S) -> None:
        self._path = folder / f"{uuid.uuid4().hex}.json"
        self._titles: set[str] = set()
        self._beat_s = beat_s
        self._heart: Heartbeat | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, title: str) -> None:
        """Use a model, by its folder and name.

        Raises:
            OSError: the folder cannot be written.
        """
        with self._lock:  # a job fetches several at once
            if title in self._titles:
                return
            self._titles.add(title)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps({"who": me(), "models": sorted(self._titles)}))
            fresh.replace(self._path)
            self._heart = self._heart or Heartbeat(self._path, beat_s=self._beat_s)

    def close(self) -> None:
        """Use them no longer."""
        if self._heart:
            self._heart.stop()
            self._heart = None
        self._path.unlink(missing_ok=True)


def in_use(folder: Path, stale_s: float = STALE_S * MANY_BEATS) -> set[str]:
    """Name the models in use; what dead workers left is removed."""
    found: set[str] = set()
    for path in folder.glob("*.json"):
        if is_gone(path) or age(path, folder) > stale_s:
            path.unlink(missing_ok=True)
            continue
        try:
            found.update(map(str, json.loads(path.read_text())["models"]))
        except (OSError, ValueError, LookupError, TypeError):  # no worker writes half of one
            continue
    return found
