"""Fetches one file: in parallel ranges, resumed, checked, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import http.client
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from worker_comfyui.models.transfer import content
from worker_comfyui.models.transfer.assembly import Assembly, Spoiled
from worker_comfyui.models.transfer.errors import (
    Damaged,
    NoRoom,
    Refused,
    Transient,
    Unreachable,
)
from worker_comfyui.models.transfer.lines import SLICE_BYTES, STALL_S, Line, Watch, run
from worker_comfyui.models.transfer.partial import PIECE_BYTES, Partial, remove
from worker_comfyui.models.transfer.progress import Meter, Progress, size
from worker_comfyui.models.transfer.remote import Remote, list_repository, look_up
from worker_comfyui.models.transfer.requests import PAUSES_S, Patience, follow
from worker_comfyui.models.transfer.rules import Rules
from worker_comfyui.models.transfer.sources import Source, shown

REPORT_S = 1.0
RESTARTS = 3
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""A network volume's limit shows as EDQUOT, and only when it is reached."""


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


def fetch(wanted: Wanted, staging: Path, means: Means, caller: Caller) -> Fetched:
    """Fetch a file into a folder below `staging`, going on where an earlier attempt stopped.

    Args:
        wanted: Which file.
        staging: Where unfinished files lie.
        means: How.
        caller: Who waits.

    Raises:
        TransferError: it cannot be had.
    """
    watch = Watch(stall_s=means.stall_s)
    meter = Meter(wanted.name)
    reported = time.monotonic()

    def look() -> None:
        nonlocal reported
        caller.tick()
        if time.monotonic() - reported >= REPORT_S:
            reported = time.monotonic()
            caller.report(meter.now())

    return run(_Transfer(wanted, staging, means, watch, meter).run, watch, look)


def ask(source: Source, means: Means, tick: Callable[[], None]) -> Remote:
    """Ask what a source says of its file, without fetching it.

    Raises:
        TransferError: it cannot be had.
    """
    watch = Watch(stall_s=means.stall_s)

    def work() -> Remote:
        with Line(watch, means.rules) as line:
            return look_up(line, source, means.rules, Patience(watch, means.pauses_s))

    return run(work, watch, tick)


def files_of(
    repository: str, revision: str | None, means: Means, tick: Callable[[], None]
) -> list[Remote]:
    """List the files of a repository of the hub.

    Raises:
        TransferError: it cannot be had.
    """
    watch = Watch(stall_s=means.stall_s)

    def work() -> list[Remote]:
        with Line(watch, means.rules) as line:
            patience = Patience(watch, means.pauses_s)
            return list_repository(line, repository, revision, means.rules, patience)

    return run(work, watch, tick)


def sha256(path: Path, tick: Callable[[], None] = lambda: None) -> str:
    """Hash a file.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
            tick()
    return digest.hexdigest()


class _Transfer:
    def __init__(
        self, wanted: Wanted, staging: Path, means: Means, watch: Watch, meter: Meter
    ) -> None:
        self._wanted = wanted
        self._staging = staging
        self._means = means
        self._watch = watch
        self._meter = meter
        self._resumed = False

    def run(self) -> Fetched:
        remote = self._wanted.remote or self._ask()
        _agree(self._wanted, remote)
        folder = self._staging / _key(self._wanted, remote)
        for restart in range(RESTARTS):
            try:
                with _disk(folder):
                    fetched = self._once(remote, folder)
                    self._check(fetched, remote)
                    return fetched
            except Spoiled:
                continue
            except Damaged:
                remove(folder)
                # What an earlier attempt left may be what is wrong.
                if restart or not self._resumed:
                    raise
        raise Damaged(f"{self._wanted.name}: what is written to {folder} comes back changed")

    def _ask(self) -> Remote:
        with Line(self._watch, self._means.rules) as line:
            patience = Patience(self._watch, self._means.pauses_s)
            return look_up(line, self._wanted.source, self._means.rules, patience)

    def _once(self, remote: Remote, folder: Path) -> Fetched:
        if remote.size == 0:  # no part of it can be asked for
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "whole").touch()
            return self._fetched(remote, folder / "whole", 0, hashlib.sha256().hexdigest())
        if remote.size is None or not remote.has_ranges:
            return self._stream(remote, folder)
        with Partial(folder, remote.size, self._means.piece_bytes) as partial:
            self._resumed = partial.done > 0
            self._require_room(remote.size - partial.done)
            self._meter.begin(partial.done, remote.size)
            digest = self._assemble(remote, partial)
            partial.sync()
            return self._fetched(remote, partial.path, remote.size, digest)

    def _fetched(self, remote: Remote, path: Path, length: int, digest: str) -> Fetched:
        return Fetched(
            path=path,
            size=length,
            sha256=digest,
            received=self._meter.fetched,
            identity=remote.source.identity,
        )

    def _assemble(self, remote: Remote, partial: Partial) -> str:
        work = Assembly(partial)
        location = _Location(remote, remote.url)
        watch = self._watch.inner()
        most = min(self._means.connections, remote.source.connections, work.left)
        threads = [
            threading.Thread(
                target=self._pieces,
                args=(work, partial, location, watch, most == 1),
                name="model-piece",
                daemon=True,
            )
            for _ in range(most)
        ]
        for thread in threads:
            thread.start()
        try:
            return work.hash(self._check_head)
        except BaseException as error:
            work.fail(error)
            raise
        finally:
            watch.end()
            for thread in threads:
                thread.join()

    def _check_head(self, head: memoryview) -> None:
        wanted = self._wanted
        content.check_head(
            bytes(head[: content.HEAD_BYTES]), None, wanted.name, safe_only=wanted.safe_only
        )

    def _pieces(
        self,
        work: Assembly,
        partial: Partial,
        location: _Location,
        watch: Watch,
        is_only: bool,
    ) -> None:
        """Fetch pieces, one after the other, until there are none."""
        try:
            buffer = bytearray(min(partial.piece_bytes, partial.size))
            with Line(watch, self._means.rules) as line:
                reader = _Reader(line, location, self._means.rules, to_the_end=is_only)
                patience = Patience(watch, self._means.pauses_s)
                while (index := work.claim()) is not None:
                    view = memoryview(buffer)[: partial.length(index)]
                    self._piece(reader, patience, index * partial.piece_bytes, view)
                    buffer = work.put(index, buffer)
        except BaseException as error:  # noqa: BLE001 - raised by the thread that hashes
            work.fail(error)

    def _piece(self, reader: _Reader, patience: Patience, start: int, view: memoryview) -> None:
        got = 0
        while got < len(view):
            part = view[got : got + SLICE_BYTES]
            try:
                count = reader.read(start + got, part, start + len(view))
            except Transient as error:
                reader.drop()
                patience.failed(error)
                continue
            patience.progressed()
            self._meter.add(count)
            got += count

    def _stream(self, remote: Remote, folder: Path) -> Fetched:
        """Fetch a file whose server gives it only as a whole."""
        patience = Patience(self._watch, self._means.pauses_s)
        self._require_room(remote.size or 0)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "whole"
        with Line(self._watch, self._means.rules) as line:
            length, digest = patience.attempt(lambda: self._whole(line, remote, path))
        return self._fetched(remote, path, length, digest)

    def _whole(self, line: Line, remote: Remote, path: Path) -> tuple[int, str]:
        rules, source = self._means.rules, remote.source
        response = follow(line, source, rules, source.url, {}).response
        announced = response.length
        self._meter.begin(0, announced)
        digest, length = hashlib.sha256(), 0
        buffer = memoryview(bytearray(SLICE_BYTES))
        with path.open("wb") as file:
            while count := _read(line, buffer, source):
                if not length:
                    self._check_head(buffer[: min(count, content.HEAD_BYTES)])
                length += count
                if self._wanted.max_bytes and length > self._wanted.max_bytes:
                    raise _too_large(self._wanted, length)
                digest.update(buffer[:count])
                file.write(buffer[:count])
                self._meter.add(count)
        if announced is not None and length != announced:
            raise Transient(f"{shown(source.url)} ended {announced - length} bytes early")
        return length, digest.hexdigest()

    def _require_room(self, missing: int) -> None:
        self._staging.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._staging).free
        if missing > free:
            raise NoRoom(
                f"{self._wanted.name} needs {size(missing)} more, and {self._staging} has "
                f"{size(free)} free: make room, or choose another folder"
            )

    def _check(self, fetched: Fetched, remote: Remote) -> None:
        name = self._wanted.name
        expected = self._wanted.sha256 or remote.sha256
        if expected and fetched.sha256 != expected.lower():
            raise Damaged(
                f"{name} arrived damaged: SHA-256 {fetched.sha256} instead of {expected.lower()}. "
                "It was deleted: try again, and if it stays, compare the hash with its page"
            )
        if remote.git_sha1 and _git_sha1(fetched) != remote.git_sha1:
            raise Damaged(f"{name} arrived damaged: not what git's hash says. It was deleted")
        if self._wanted.bytes and fetched.size != self._wanted.bytes:
            raise Damaged(f"{name} has {fetched.size} bytes instead of {self._wanted.bytes}")
        content.check(fetched.path, name, safe_only=self._wanted.safe_only)


@dataclass(slots=True)
class _Location:
    """Who has the bytes: a signed link ends within the hour, and is then asked for anew."""

    remote: Remote
    url: str


class _Reader:
    """Reads the bytes of a remote file from any offset, over one connection."""

    def __init__(self, line: Line, location: _Location, rules: Rules, *, to_the_end: bool) -> None:
        self._line = line
        self._location = location
        self._rules = rules
        self._to_the_end = to_the_end
        self._at: int | None = None

    def drop(self) -> None:
        """Begin with a new connection next time."""
        self._line.close()
        self._at = None

    def read(self, start: int, view: memoryview, end: int) -> int:
        """Read bytes from `start` on, at least one; `end` is where this piece ends.

        Raises:
            Transient: nothing came.
            Refused, Ended: nothing will.
        """
        if self._at != start:
            last = self._location.remote.size if self._to_the_end else end
            self._ask(start, (last or end) - 1)
            self._at = start
        count = _read(self._line, view, self._location.remote.source)
        if not count:
            raise Transient(f"{shown(self._location.remote.source.url)} broke off")
        self._at = start + count
        if self._at == end and not self._to_the_end:
            self._at = None
        return count

    def _ask(self, first: int, last: int) -> None:
        source, headers = self._location.remote.source, {"Range": f"bytes={first}-{last}"}
        known = self._location.url
        try:
            found = follow(self._line, source, self._rules, known, headers)
        except Refused:
            if known == source.url:
                raise
            found = follow(self._line, source, self._rules, source.url, headers)
            self._location.url = found.url
        told = found.response.headers.get("Content-Range") or ""
        if found.response.status != 206 or told.split("/") != [
            f"bytes {first}-{last}",
            str(self._location.remote.size),
        ]:
            self.drop()
            raise Transient(f"{shown(source.url)} gave another part than was asked for")


def _read(line: Line, view: memoryview, source: Source) -> int:
    try:
        return line.read(view)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise Transient(f"{shown(source.url)} broke off: {reason}") from None


def _agree(wanted: Wanted, remote: Remote) -> None:
    """See, before anything is fetched, that it is what is wanted."""
    name = wanted.name
    if wanted.sha256 and remote.sha256 and wanted.sha256.lower() != remote.sha256.lower():
        raise Damaged(
            f"{name} has the SHA-256 {remote.sha256.lower()} at {shown(remote.source.url)}, not "
            f"{wanted.sha256.lower()}: the file was replaced, or the hash is wrong; compare them"
        )
    if remote.size is None:
        return
    if wanted.bytes and remote.size != wanted.bytes:
        raise Damaged(
            f"{name} has {remote.size} bytes at {shown(remote.source.url)}, not {wanted.bytes}: "
            "the file was replaced, or the number is wrong; compare them"
        )
    if wanted.max_bytes and remote.size > wanted.max_bytes:
        raise _too_large(wanted, remote.size)


def _too_large(wanted: Wanted, length: int) -> NoRoom:
    return NoRoom(
        f"{wanted.name} has {size(length)}, and at most {size(wanted.max_bytes or 0)} are allowed "
        "(MODEL_MAX_GB)"
    )


def _key(wanted: Wanted, remote: Remote) -> str:
    """Name the folder of an unfinished file: the same for the same content only."""
    content_id = wanted.sha256 or remote.sha256 or f"{remote.source.identity} {remote.size}"
    return hashlib.sha256(content_id.lower().encode("utf-8", "replace")).hexdigest()[:32]


def _git_sha1(fetched: Fetched) -> str:
    digest = hashlib.sha1(f"blob {fetched.size}\0".encode(), usedforsecurity=False)
    with fetched.path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise NoRoom(
                f"the disk of {folder} is full: make room (MODEL_CACHE_GB bounds what the worker "
                "keeps), or choose a larger one"
            ) from error
        raise Unreachable(f"{folder} cannot be written: {error.strerror or error}") from error
