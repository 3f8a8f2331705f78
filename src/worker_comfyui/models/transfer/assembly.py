"""Puts a file together from pieces that arrive in any order, and hashes it meanwhile."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable

from worker_comfyui.models.transfer.partial import Partial

KEPT = 4
"""Pieces that wait in memory for the hash; others it reads from the disk again."""
NEAR = 32
"""So many pieces behind, the hash is waited for: it then needs to read nothing again."""
SETTLED = 16
"""Pieces that are written before the disk is to take them."""


class Spoiled(Exception):
    """A piece on the disk is not what was written: it is fetched again."""


class Assembly:
    """The work that is left for one file, shared by the threads that fetch its pieces."""

    def __init__(self, partial: Partial, workers: int) -> None:
        self._partial = partial
        self._workers = workers
        self._todo = deque(partial.missing())
        self._kept: dict[int, bytearray] = {}
        self._free: list[bytearray] = []
        self._in_hand: bytearray | None = None
        self._at = 0
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._pending = set(self._todo)
        self._unsettled = 0

    def claim(self) -> int | None:
        """Take the next piece; None when all are there, or it is all over."""
        with self._changed:
            while self._pending and not self._todo and not self._failure:
                self._changed.wait()  # a piece in another's hands may be given back
            return self._todo.popleft() if self._todo and not self._failure else None

    def give_up(self, index: int, error: BaseException) -> None:
        """Leave a piece to the others; the last one's reason ends the work."""
        with self._changed:
            self._workers -= 1
            self._todo.appendleft(index)
            if not self._workers:
                self._failure = self._failure or error
            self._changed.notify_all()

    def put(self, index: int, buffer: bytearray) -> bytearray:
        """Write a piece, and return a buffer for the next one.

        Where the hash is a little behind, this waits for it: whatever it has to read from the disk
        again takes more time. Not so while the hash itself waits, for a piece that is slow to
        arrive, or is at what an earlier attempt left.

        Raises:
            OSError: it cannot be written.
        """
        self._partial.write(index, memoryview(buffer)[: self._partial.length(index)])
        with self._changed:
            self._pending.discard(index)
            self._unsettled += 1
            self._kept[index] = buffer
            self._changed.notify_all()
            while len(self._kept) > KEPT and self._is_behind(index):
                self._changed.wait()
            if len(self._kept) > KEPT:
                return self._kept.pop(max(self._kept))
            if self._free:
                return self._free.pop()
        return bytearray(len(buffer))

    def _is_behind(self, index: int) -> bool:
        """Tell whether the hash is at work, and will be at this piece soon."""
        is_at_work = self._at not in self._pending and not self._failure
        return is_at_work and index - self._at <= NEAR

    def settle(self) -> None:
        """Have the disk take what was written while more comes, until all is there.

        Left to the system, most of a large file would be in memory alone when its last byte has
        come, and the wait for the disk would begin then.
        """
        try:
            while self._is_worth_a_sync():
                self._partial.sync()
        except OSError as error:
            self.fail(error)

    def _is_worth_a_sync(self) -> bool:
        """Wait until many pieces were written since the last time; False: nothing more will be."""
        with self._changed:
            while self._unsettled < SETTLED and self._pending and not self._failure:
                self._changed.wait()
            self._unsettled = 0
            return bool(self._pending) and not self._failure

    def fail(self, error: BaseException) -> None:
        """End the work; the first reason counts."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def hash(self, check_head: Callable[[memoryview], None]) -> str:
        """Wait for all pieces in order, and return the SHA-256 of the whole.

        Args:
            check_head: Is given the first piece, as soon as it is there; what it raises ends all.

        Raises:
            Spoiled: a piece must be fetched again.
        """
        digest = hashlib.sha256()
        spare = bytearray(min(self._partial.piece_bytes, max(self._partial.size, 1)))
        for index in range(self._partial.count):
            content = self._next(index, spare)
            if index == 0:
                check_head(content)
            digest.update(content)
        return digest.hexdigest()

    def _next(self, index: int, spare: bytearray) -> memoryview:
        with self._changed:
            self._at = index
            # The hash has read the last one only when it asks for the next.
            if self._in_hand is not None:
                self._free.append(self._in_hand)
                self._in_hand = None
            self._changed.notify_all()
            while index in self._pending and not self._failure:
                self._changed.wait()
            if self._failure:
                raise self._failure
            self._in_hand = self._kept.pop(index, None)
            self._changed.notify_all()
            if self._in_hand is not None:
                return memoryview(self._in_hand)[: self._partial.length(index)]
        content = self._partial.read(index, spare)
        if content is None:
            self._partial.forget(index)
            raise Spoiled
        return content
