"""How far a transfer is, for people and programs."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

WINDOW_S = 3.0


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a transfer.

    Attributes:
        name: The file's.
        done: Bytes that are here, those of an earlier attempt included.
        total: Bytes of the whole; None: the server did not say.
        bytes_per_s: Of the last few seconds.
        elsewhere: Whether another process fetches it, for which this one waits.
    """

    name: str
    done: int
    total: int | None
    bytes_per_s: float
    elsewhere: bool = False

    def __str__(self) -> str:
        """Write it for people: `fetching flux1-dev.safetensors, 43 %, 310 MB/s`."""
        if self.elsewhere:
            verb, speed = "waiting for another worker that fetches", ""
        else:
            verb, speed = "fetching", f", {self.bytes_per_s / 1e6:.0f} MB/s"
        part = f"{self.done * 100 // self.total} %" if self.total else size(self.done)
        return f"{verb} {self.name}, {part}{speed}"


class Meter:
    """Counts what comes, from any thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._done = 0
        self._fetched = 0
        self._total: int | None = None
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def begin(self, done: int, total: int | None) -> None:
        """Say how much was there before, and how much the whole is."""
        with self._lock:
            self._done, self._total = done, total

    def add(self, count: int) -> None:
        """Count bytes that came."""
        with self._lock:
            self._done += count
            self._fetched += count

    @property
    def fetched(self) -> int:
        """Bytes that came over the network."""
        return self._fetched

    def now(self) -> Progress:
        """Return where it stands."""
        with self._lock:
            now = time.monotonic()
            self._samples.append((now, self._fetched))
            while len(self._samples) > 2 and now - self._samples[0][0] > WINDOW_S:
                self._samples.popleft()
            since, before = self._samples[0]
            rate = (self._fetched - before) / max(now - since, 1e-3)
            return Progress(self._name, self._done, self._total, rate)


def size(count: int) -> str:
    """Write a number of bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
