"""A file by its pieces, over several connections at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from worker_comfyui.models.transfer.assembly import Assembly
from worker_comfyui.models.transfer.errors import Refused, TransferError, Transient
from worker_comfyui.models.transfer.lines import Line, Watch
from worker_comfyui.models.transfer.partial import Partial
from worker_comfyui.models.transfer.progress import Meter
from worker_comfyui.models.transfer.remote import Remote
from worker_comfyui.models.transfer.requests import Patience, follow, read
from worker_comfyui.models.transfer.rules import Rules
from worker_comfyui.models.transfer.terms import Means
from worker_comfyui.models.transfer.wording import shown


class Ranges:
    """Fetches what is missing of a file."""

    def __init__(self, remote: Remote, partial: Partial, means: Means, meter: Meter) -> None:
        self._partial = partial
        self._means = means
        self._meter = meter
        self._location = _Location(remote, remote.url)
        missing = len(partial.missing())
        self._count = min(means.connections, remote.source.connections, missing)
        self._work = Assembly(partial, self._count)

    def fetch(self, watch: Watch, check_head: Callable[[memoryview], None]) -> str:
        """Fetch all that is missing; return the SHA-256 of the whole.

        Args:
            watch: Ends it.
            check_head: Is given the first piece, as soon as it is there; what it raises ends it.

        Raises:
            TransferError: it cannot be had.
            Spoiled: what an earlier attempt wrote is not what is on the disk now.
        """
        inner = watch.inner()
        threads = [
            threading.Thread(target=self._run, args=(inner,), name="model-piece", daemon=True)
            for _ in range(self._count)
        ]
        threads.append(threading.Thread(target=self._work.settle, name="model-settle", daemon=True))
        for thread in threads:
            thread.start()
        try:
            return self._work.hash(check_head)
        except BaseException as error:
            self._work.fail(error)
            raise
        finally:
            inner.end()
            for thread in threads:
                thread.join()

    def _run(self, watch: Watch) -> None:
        """Fetch pieces over one connection, one after the other, until there are none."""
        try:
            buffer = bytearray(min(self._partial.piece_bytes, self._partial.size))
            with Line(watch, self._means.rules) as line:
                reader = _Reader(line, self._location, self._means.rules, is_only=self._count == 1)
                patience = Patience(watch, self._means.pauses_s)
                while (index := self._work.claim()) is not None:
                    view = memoryview(buffer)[: self._partial.length(index)]
                    try:
                        self._piece(reader, patience, index * self._partial.piece_bytes, view)
                    except TransferError as error:
                        # Some servers allow fewer connections: the others go on without this one.
                        self._work.give_up(index, error)
                        return
                    buffer = self._work.put(index, buffer)
        except BaseException as error:  # noqa: BLE001 - raised by the thread that hashes
            self._work.fail(error)

    def _piece(self, reader: _Reader, patience: Patience, start: int, view: memoryview) -> None:
        got = 0
        while got < len(view):
            try:
                count = reader.read(start + got, view[got:], start + len(view))
            except Transient as error:
                reader.drop()
                patience.failed(error)
                continue
            patience.progressed()
            self._meter.add(count)
            got += count


@dataclass(slots=True)
class _Location:
    """Who has the bytes: a signed link ends within the hour, and is then asked for anew."""

    remote: Remote
    url: str


class _Reader:
    """Reads the bytes of a remote file from any offset, over one connection."""

    def __init__(self, line: Line, location: _Location, rules: Rules, *, is_only: bool) -> None:
        self._line = line
        self._location = location
        self._rules = rules
        # Without others nothing is won by asking for one piece at a time.
        self._to_the_end = is_only
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
        count = read(self._line, view, self._location.remote.source)
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
