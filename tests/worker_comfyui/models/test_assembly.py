"""Pieces that arrive in any order, and the hash that follows them."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import wait_until
from worker_comfyui.models.transfer import assembly
from worker_comfyui.models.transfer.assembly import KEPT, SETTLED, Assembly
from worker_comfyui.models.transfer.partial import Partial

PIECE = 1000
COUNT = 60
CONTENT = os.urandom(COUNT * PIECE)


class CountingPartial(Partial):
    """Counts the pieces that are read from the disk again, and how often it is to take them."""

    reads = 0
    synced = 0

    def read(self, index: int, buffer: bytearray) -> memoryview | None:
        """Read a piece, and count it."""
        self.reads += 1
        return super().read(index, buffer)

    def sync(self) -> None:
        """Let the disk take it, and count."""
        super().sync()
        self.synced += 1


@pytest.fixture
def partial(tmp_path: Path) -> Iterator[CountingPartial]:
    with CountingPartial(tmp_path, len(CONTENT), PIECE) as partial:
        yield partial


def put(work: Assembly, index: int, buffer: bytearray) -> bytearray:
    buffer[:] = CONTENT[index * PIECE : (index + 1) * PIECE]
    return work.put(index, buffer)


def test_a_slow_hash_is_waited_for_rather_than_made_to_read_all_again(
    partial: CountingPartial, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        def __init__(self) -> None:
            self._digest = hashlib.sha256()

        def update(self, content: memoryview) -> None:
            time.sleep(0.003)
            self._digest.update(content)

        def hexdigest(self) -> str:
            return self._digest.hexdigest()

    monkeypatch.setattr(assembly, "hashlib", type("hashlib", (), {"sha256": Slow}))
    work = Assembly(partial, 1)
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(work.hash, lambda _: None)
        buffer = bytearray(PIECE)
        buffers = {id(buffer)}
        while (index := work.claim()) is not None:
            buffer = put(work, index, buffer)
            buffers.add(id(buffer))
        assert digest.result(30) == hashlib.sha256(CONTENT).hexdigest()
    assert partial.reads == 0
    assert len(buffers) <= KEPT + 3  # memory stays flat


def test_a_piece_that_is_slow_to_arrive_holds_up_no_other(partial: CountingPartial) -> None:
    work = Assembly(partial, 2)
    with ThreadPoolExecutor(2) as pool:
        digest = pool.submit(work.hash, lambda _: None)

        def others() -> None:
            buffer = bytearray(PIECE)
            for index in range(1, COUNT):
                buffer = put(work, index, buffer)

        pool.submit(others).result(30)
        put(work, 0, bytearray(PIECE))
        assert digest.result(30) == hashlib.sha256(CONTENT).hexdigest()
    # The nearest were kept in memory.
    assert partial.reads == COUNT - 1 - KEPT


def test_an_end_wakes_who_waits_for_the_hash(
    partial: CountingPartial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CountingPartial, "read", never_again)
    work = Assembly(partial, 1)
    with ThreadPoolExecutor(1) as pool:
        buffer = bytearray(PIECE)
        for index in range(KEPT):
            buffer = put(work, index, buffer)
        waiting = pool.submit(put, work, KEPT, buffer)
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
        work.fail(OSError("the disk is full"))
        waiting.result(30)


def test_the_disk_takes_what_came_while_more_comes(partial: CountingPartial) -> None:
    work = Assembly(partial, 1)
    with ThreadPoolExecutor(2) as pool:
        digest = pool.submit(work.hash, lambda _: None)
        settled = pool.submit(work.settle)
        buffer = bytearray(PIECE)
        for index in range(COUNT):
            buffer = put(work, index, buffer)
            written = index + 1
            wait_until(lambda: partial.synced == written // SETTLED)  # noqa: B023 # within the turn
        settled.result(30)
        assert digest.result(30) == hashlib.sha256(CONTENT).hexdigest()


def test_a_disk_that_fails_to_take_it_ends_the_work(
    partial: CountingPartial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(partial, "sync", full)
    work = Assembly(partial, 1)
    with ThreadPoolExecutor(2) as pool:
        digest = pool.submit(work.hash, lambda _: None)
        pool.submit(work.settle)
        buffer = bytearray(PIECE)
        for index in range(SETTLED):
            buffer = put(work, index, buffer)
        with pytest.raises(OSError, match="quota"):
            digest.result(30)


def never_again(*_: Any) -> None:
    raise AssertionError("read again")
