"""What is wanted, how it is fetched, for whom, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker_comfyui.models.transfer.lines import STALL_S
from worker_comfyui.models.transfer.partial import PIECE_BYTES
from worker_comfyui.models.transfer.progress import Progress
from worker_comfyui.models.transfer.remote import Remote
from worker_comfyui.models.transfer.requests import PAUSES_S
from worker_comfyui.models.transfer.rules import Rules
from worker_comfyui.models.transfer.sources import Source


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A file that is to be fetched.

    Attributes:
        source: Where it is had.
        name: What it will be called; its ending says what it must be.
        sha256: What it must have, where that is known.
        bytes: How long it must be, where that is known.
        max_bytes: How long it may be.
        safe_only: Whether only formats that cannot run code are taken.
        remote: What the other side said of it already.
    """

    source: Source
    name: str
    sha256: str | None = None
    bytes: int | None = None
    max_bytes: int | None = None
    safe_only: bool = False
    remote: Remote | None = None


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A whole file, checked.

    Attributes:
        path: Where it lies: in a folder of its own, to be moved away and removed.
        size: Its bytes.
        sha256: Of its content.
        received: Bytes that came over the network this time.
        identity: What it is called wherever it is asked for.
    """

    path: Path
    size: int
    sha256: str
    received: int
    identity: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Who waits for a transfer.

    Attributes:
        tick: Called often; what it raises ends the transfer at once, and what came is kept.
        report: Called about once a second.
    """

    tick: Callable[[], None]
    report: Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class Means:
    """How a transfer is made, the same for all of a process.

    Attributes:
        rules: Whom it may ask.
        connections: At most so many at once; the source may allow fewer.
        pauses_s: Between attempts in a row of which none brought a byte.
        stall_s: After so long without a byte a connection is made anew.
        piece_bytes: What one request asks for.
    """

    rules: Rules
    connections: int = 8
    pauses_s: tuple[float, ...] = PAUSES_S
    stall_s: float = STALL_S
    piece_bytes: int = PIECE_BYTES
