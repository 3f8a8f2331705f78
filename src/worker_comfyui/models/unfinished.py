"""What the store began to fetch and has not ended yet."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from worker_comfyui.models.transfer import lease
from worker_comfyui.models.transfer.deliver import Workshop
from worker_comfyui.models.transfer.partial import done_on_disk

OLD_S = 3 * 86400.0
"""What nobody went on with for so long is given up."""
BLOCK_BYTES = 512
"""Unit of `st_blocks`, whatever the file system's own is."""


class Unfinished:
    """Unfinished files, those of other workers too."""

    def __init__(self, workshop: Workshop) -> None:
        self._folder = workshop.partial
        self._leases = workshop.leases

    def bytes(self, key: str = "") -> int:
        """Count what they take on the disk, or those of one place."""
        return sum(_blocks(path) for path in (self._folder / key).rglob("*")) * BLOCK_BYTES

    def all(self) -> list[tuple[int, int]]:
        """List them: bytes that are there, and of the whole."""
        found = (done_on_disk(path) for path in self._folder.glob("*/*"))
        return [entry for entry in found if entry]

    def remove_old(self, older_than_s: float = OLD_S) -> None:
        """Remove those that nobody goes on with."""
        for folder in self._folder.glob("*"):
            newest = max((folder, *folder.rglob("*")), key=_changed_at)
            is_old = lease.age(newest, self._folder) > older_than_s
            if is_old and not lease.is_held(self._leases, folder.name):
                shutil.rmtree(folder, ignore_errors=True)


def _blocks(path: Path) -> int:
    try:
        return os.lstat(path).st_blocks
    except OSError:  # it was just ended
        return 0


def _changed_at(path: Path) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0
