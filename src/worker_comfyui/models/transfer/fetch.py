"""Fetches one file: in parallel ranges, resumed, checked, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from worker_comfyui.models.transfer import content
from worker_comfyui.models.transfer.assembly import Spoiled
from worker_comfyui.models.transfer.errors import Damaged, NoRoom, Transient, Unreachable
from worker_comfyui.models.transfer.lines import SLICE_BYTES, Line, Watch, run
from worker_comfyui.models.transfer.partial import Partial, remove
from worker_comfyui.models.transfer.progress import Meter, size
from worker_comfyui.models.transfer.ranges import Ranges
from worker_comfyui.models.transfer.remote import Remote, list_repository, look_up
from worker_comfyui.models.transfer.requests import Patience, follow, read
from worker_comfyui.models.transfer.sources import Source
from worker_comfyui.models.transfer.terms import Caller, Fetched, Means, Wanted
from worker_comfyui.models.transfer.wording import shown

REPORT_S = 1.0
RESTARTS = 3
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""A network volume's limit shows as EDQUOT, and only when it is reached."""


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
            ranges = Ranges(remote, partial, self._means, self._meter)
            digest = ranges.fetch(self._watch, self._check_head)
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

    def _check_head(self, head: memoryview) -> None:
        wanted = self._wanted
        content.check_head(
            bytes(head[: content.HEAD_BYTES]), None, wanted.name, safe_only=wanted.safe_only
        )

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
            while count := read(line, buffer, source):
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
