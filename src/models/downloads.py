"""Downloads files below a folder, several at once: resumed, checked, whole or not at all."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from models.items import Failed, Item, Shortage, say
from models.variants import ModelFile
from worker_comfyui.models.transfer import sources
from worker_comfyui.models.transfer.deliver import LEASES, PARTIAL, Place, Workshop, deliver
from worker_comfyui.models.transfer.errors import Refused, TransferError, Unreachable
from worker_comfyui.models.transfer.fetch import ask, files_of, sha256
from worker_comfyui.models.transfer.progress import Progress, size
from worker_comfyui.models.transfer.remote import Remote
from worker_comfyui.models.transfer.rules import Rules, Tokens
from worker_comfyui.models.transfer.terms import Caller, Fetched, Means, Wanted

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 4
CONNECTIONS = 4
"""For each file: there are several at once."""
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0)
"""A build may wait a few minutes for a hub that is away; nobody watches it."""
STAGING = ".download"
"""Folder beside the models for what has not been checked yet; what lies there is resumed."""


class Downloads:
    """Downloads files below a folder, all with the same means."""

    def __init__(self, folder: Path, tokens: Tokens, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._workshop = Workshop(folder=folder / STAGING)
        self._tokens = tokens
        self._hub = environ.get("HF_ENDPOINT", "").rstrip("/") or sources.HUB
        self._progress: dict[str, Progress] = {}
        self._stopped = threading.Event()

    def variant(self, files: Sequence[ModelFile]) -> list[Item]:
        """Look up the files of a variant: whole repositories become their files.

        Raises:
            Failed: one is not there, or is not the file that the list means.
            Shortage: a token is missing.
        """
        self._require_token(files)
        for file in files:
            if file.revision is None and file.sha256 is None:
                say(f"note: {file.repository} is pinned to no revision: the newest one is taken")
        found, failures = self._each(self._of_file, files)
        if failures:
            raise _failed(failures)
        return [item for group in found for item in group]

    def run(self, items: Sequence[Item]) -> None:
        """Download them all, and print how it goes.

        Raises:
            Failed: some could not be had; the others are there.
            Shortage: there is no room for them.
        """
        known, missed = self._each(self._look_up, items)
        if any(not isinstance(failure, Unreachable) for failure in missed):
            raise _failed(missed)  # no other day will change it: better now than in an hour
        self._require_room(known)
        total = sum(item.size or 0 for item in known)
        say(f"{len(known)} files, {size(total)}, to {self._folder}")
        finished = threading.Event()
        watcher = threading.Thread(target=self._report, args=(total, finished), daemon=True)
        watcher.start()
        try:
            fetched, failures = self._each(self._fetch, known)
        finally:
            self._stopped.set()
            finished.set()
            watcher.join()
        if missed or failures:
            raise _failed([*missed, *failures])
        remove_staging(self._folder)
        there = fetched.count(None)
        say(f"All {len(known)} files are there and checked; {there} were before.")

    def _each(self, work: Callable[[T], R], items: Sequence[T]) -> tuple[list[R], list[Exception]]:
        """Do it for all, several at once; one failure leaves the others alone."""
        results: list[R] = []
        failures: list[Exception] = []
        with ThreadPoolExecutor(AT_ONCE) as pool:
            running = [pool.submit(work, item) for item in items]
            try:
                for future in running:
                    try:
                        results.append(future.result())
                    except (TransferError, OSError) as error:
                        failures.append(error)
            except BaseException:  # Ctrl-C
                self._stopped.set()
                pool.shutdown(cancel_futures=True)
                raise
        return results, failures

    def _means(self, url: str) -> Means:
        # The person who runs this names the addresses: any of them may be asked.
        named = {urlsplit(self._hub).netloc, urlsplit(url).netloc}
        trusted = named - sources.HUB_HOSTS - sources.CIVITAI_HOSTS
        rules = Rules(tokens=self._tokens, trusted=frozenset(trusted), hub=self._hub)
        return Means(rules=rules, connections=CONNECTIONS, pauses_s=PAUSES_S)

    def _of_file(self, file: ModelFile) -> list[Item]:
        if file.path:
            url = sources.hub_url(file.repository, file.revision or "main", file.path)
            return [
                Item(
                    title=f"{file.repository}: {file.path}",
                    url=url,
                    destination=file.destination,
                    sha256=file.sha256,
                    size=file.size if file.exact else None,
                )
            ]
        remote = files_of(file.repository, file.revision, self._means(self._hub), self._tick)
        return [
            Item(
                title=f"{file.repository}: {entry.filename}",
                url=entry.source.url,
                destination=f"{file.destination}/{entry.filename}",
                sha256=entry.sha256,
                size=entry.size,
                remote=entry,
            )
            for entry in remote
        ]

    def _look_up(self, item: Item) -> Item:
        if item.remote:
            return item
        source = sources.source(item.url, self._hub)
        remote = ask(source, self._means(item.url), self._tick)
        _agree(item, remote)
        return replace(item, remote=remote, size=remote.size, sha256=item.sha256 or remote.sha256)

    def _fetch(self, item: Item) -> Fetched | None:
        path = self._folder / item.destination
        wanted = Wanted(
            source=sources.source(item.url, self._hub),
            name=item.title,
            sha256=item.sha256,
            bytes=item.size,
            remote=item.remote,
        )
        place = Place(path=path, is_there=lambda: _is_right(path, item))
        fetched = deliver(
            wanted, place, self._workshop, self._means(item.url), Caller(self._tick, self._note)
        )
        if fetched and not item.sha256:
            say(f"note: {item.destination} has the SHA-256 {fetched.sha256}")
        return fetched

    def _tick(self) -> None:
        if self._stopped.is_set():
            # So nothing on the way takes it for a failure of its own.
            raise KeyboardInterrupt

    def _note(self, progress: Progress) -> None:
        self._progress[progress.name] = progress

    def _require_token(self, files: Sequence[ModelFile]) -> None:
        gated = sorted({file.repository for file in files if file.gated})
        if gated and not self._tokens.hub:
            pages = " and ".join(f"{sources.HUB}/{repository}" for repository in gated)
            raise Shortage(
                f"{' and '.join(gated)} can be read with a token only: accept the terms at "
                f"{pages}, make a read token at {sources.HUB}/settings/tokens, and set HF_TOKEN "
                "(for an image: the build secret HF_TOKEN, see docs/deployment.md)"
            )

    def _require_room(self, items: Sequence[Item]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        there = sum(_size(self._folder / item.destination) for item in items)
        staged = sum(_on_disk(path) for path in (self._folder / STAGING).rglob("*"))
        missing = sum(item.size or 0 for item in items) - there - staged
        free = shutil.disk_usage(self._folder).free
        if missing > free:
            raise Shortage(
                f"{self._folder} has {size(free)} free, but {size(missing)} are missing: make "
                "room, or choose another folder"
            )

    def _report(self, total: int, finished: threading.Event) -> None:
        """Print the progress: one line that is rewritten on a terminal, else one now and then."""
        terminal = sys.stderr.isatty()
        # A line a second would fill the log of a build.
        while not finished.wait(1 if terminal else 15):
            line = _line(list(self._progress.values()), total)
            sys.stderr.write(f"\r{line:<70}" if terminal else f"{line}\n")
            sys.stderr.flush()
        if terminal:
            sys.stderr.write("\r" + " " * 70 + "\r")


def _failed(failures: Sequence[Exception]) -> Failed:
    again = "; run it again to go on"
    said = (f"{f}{again if isinstance(f, (Unreachable, OSError)) else ''}" for f in failures)
    # One reason is often that of many files.
    return Failed("\n".join(dict.fromkeys(said)))


def _line(running: Sequence[Progress], total: int) -> str:
    done = sum(progress.done for progress in running)
    rate = sum(progress.bytes_per_s for progress in running)
    left = f", {(total - done) / rate / 60:.0f} min left" if rate > 1 and done < total else ""
    return f"{size(done)} of {size(total)}, {rate / 1e6:.0f} MB/s{left}"


def _agree(item: Item, remote: Remote) -> None:
    advice = (
        "the file was replaced, or the list is wrong; compare them, then correct the list "
        "(src/models/variants.json)"
    )
    if item.size and remote.size not in {None, item.size}:
        raise Refused(f"{item.title} has {remote.size} bytes there, {item.size} here: {advice}")
    if item.sha256 and remote.sha256 not in {None, item.sha256}:
        raise Refused(
            f"{item.title} has the SHA-256 {remote.sha256} there, {item.sha256} here: {advice}"
        )


def _is_right(path: Path, item: Item) -> bool:
    if not path.is_file() or (item.size and path.stat().st_size != item.size):
        return False
    return not item.sha256 or sha256(path) == item.sha256


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _on_disk(path: Path) -> int:
    """Count what an unfinished file takes: it has holes where its pieces are missing.

    `st_blocks` counts 512 bytes whatever the file system's own blocks are: stat(2).
    """
    try:
        status = path.stat()
    except OSError:  # it was just moved to its place
        return 0
    return status.st_blocks * 512 if path.is_file() else 0


def remove_staging(folder: Path) -> None:
    """Remove what the downloads needed, unless others are at work there."""
    staging = folder / STAGING
    for path in (staging / LEASES, staging / PARTIAL, staging):
        try:
            path.rmdir()
        except OSError:  # it is not empty
            return
