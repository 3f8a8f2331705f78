"""A file under its name: fetched by one of all who want it, and there as a whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from worker_comfyui.models.transfer.fetch import REPORT_S, fetch
from worker_comfyui.models.transfer.lease import BEAT_S, STALE_S, Lease
from worker_comfyui.models.transfer.partial import done_on_disk
from worker_comfyui.models.transfer.progress import Progress
from worker_comfyui.models.transfer.terms import Caller, Fetched, Means, Wanted

PARTIAL = "partial"
LEASES = "leases"


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where files are made: on the file system of their places, and in no folder that is listed.

    Attributes:
        folder: Its root.
        beat_s: How often a lease is touched.
        stale_s: After so long without it lease is lost.
    """

    folder: Path
    beat_s: float = BEAT_S
    stale_s: float = STALE_S

    @property
    def partial(self) -> Path:
        """Where unfinished files lie."""
        return self.folder / PARTIAL

    @property
    def leases(self) -> Path:
        """Where it is written who fetches what."""
        return self.folder / LEASES


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a file belongs.

    Attributes:
        path: Its path.
        is_there: Tells whether the right file is there.
        before: Called when the file is whole, before it appears.
    """

    path: Path
    is_there: Callable[[], bool]
    before: Callable[[Fetched], None] = lambda _: None

    @property
    def key(self) -> str:
        """Name it in the workshop."""
        return hashlib.sha256(str(self.path).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def deliver(
    wanted: Wanted, place: Place, workshop: Workshop, means: Means, caller: Caller
) -> Fetched | None:
    """Bring a file to its place, unless it is there or another process brings it meanwhile.

    Returns:
        None if it was there.

    Raises:
        TransferError: it cannot be had.
        OSError: its folders cannot be written.
    """
    if place.is_there():
        return None
    staging = workshop.partial / place.key
    lease = Lease(workshop.leases, place.key, beat_s=workshop.beat_s, stale_s=workshop.stale_s)
    with lease:
        lease.acquire(_Waiting(wanted.name, staging, caller))
        if place.is_there():
            return None
        fetched = fetch(wanted, staging, means, caller)
        place.before(fetched)
        publish(fetched.path, place.path)
        shutil.rmtree(staging, ignore_errors=True)
        return replace(fetched, path=place.path)


def publish(source: Path, place: Path) -> None:
    """Give a whole file its name, by one rename: nobody ever sees a part of it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    source.replace(place)
    with suppress(OSError):  # some network file systems cannot
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class _Waiting:
    """Called while another process fetches the file; says how far that one is."""

    def __init__(self, name: str, staging: Path, caller: Caller) -> None:
        self._name = name
        self._staging = staging
        self._caller = caller
        self._reported = time.monotonic()

    def __call__(self) -> None:
        self._caller.tick()
        if time.monotonic() - self._reported < REPORT_S:
            return
        self._reported = time.monotonic()
        done, total = self._elsewhere() or (0, None)
        self._caller.report(Progress(self._name, done, total, 0.0, elsewhere=True))

    def _elsewhere(self) -> tuple[int, int] | None:
        found = [done_on_disk(folder) for folder in self._staging.glob("*")]
        return max(filter(None, found), default=None)
