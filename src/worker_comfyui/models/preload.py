"""Reads models into the page cache while ComfyUI imports: it then loads them from memory.

A loader that maps a file reads it in small steps, one after the other, which on a network volume
takes minutes; a few threads that read large blocks take seconds. What was read may be given up by
the kernel again, so nothing here can do harm but use the disk.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from worker_comfyui.config import MEGA
from worker_comfyui.models import memory

log = logging.getLogger(__name__)

BLOCK_BYTES = 16 << 20
THREADS = 4
NICENESS = 10
RESERVE_BYTES = 2 << 30
"""Left free for ComfyUI and what it imports."""
STOP_S = 1.0
SHARE = 0.9
"""Of the free memory that may be filled: the rest is for what else happens meanwhile."""


class Preload:
    """Reads files in the background, until they are read, memory is short, or it is stopped."""

    def __init__(
        self, files: Callable[[], Iterable[Path]], free_bytes: Callable[[], int] | None = None
    ) -> None:
        """Make it.

        Args:
            files: Finds them: called by the thread, since a volume may be slow to list.
            free_bytes: How much memory is free.
        """
        self._files = files
        self._free_bytes = free_bytes or memory.free_bytes
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="preload", daemon=True)
        self.read_bytes = 0

    def start(self) -> None:
        """Begin, and return at once."""
        self._thread.start()

    def stop(self) -> None:
        """End soon, and wait for it; not long, since a volume may hang."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until it is done; tell whether it is."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        started = time.monotonic()
        try:
            blocks = _blocks(fitting(self._files(), self._budget()))
            readers = [
                threading.Thread(target=self._read, args=(blocks,), name="preload", daemon=True)
                for _ in range(THREADS)
            ]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()
        except OSError as error:
            log.warning("models cannot be read in advance: %s", error)
        seconds = time.monotonic() - started
        if self.read_bytes:
            log.info(
                "read %.0f MB of models in advance, in %.1f s",
                self.read_bytes / MEGA,
                seconds,
                extra={"event": "models_preloaded", "bytes": self.read_bytes},
            )

    def _budget(self) -> int:
        return int((self._free_bytes() - RESERVE_BYTES) * SHARE)

    def _read(self, blocks: Iterator[tuple[Path, int]]) -> None:
        _be_nice()
        buffer = bytearray(BLOCK_BYTES)
        while not self._stopped.is_set():
            with self._lock:
                path, offset = next(blocks, (None, 0))
            if path is None:
                return
            if self._free_bytes() < RESERVE_BYTES:
                log.info("memory is short: no more models are read in advance")
                self._stopped.set()
                return
            with suppress(OSError):  # it was deleted: nobody needs it then
                count = _read_block(path, offset, buffer)
                with self._lock:
                    self.read_bytes += count


def fitting(files: Iterable[Path], budget: int) -> list[tuple[Path, int]]:
    """Choose the files that fit into memory, in the order given, with their sizes."""
    chosen: dict[Path, int] = {}
    for file in files:
        real = file.resolve()
        size = real.stat().st_size if real.is_file() else 0
        if real in chosen or not size:
            continue
        if size > budget:
            log.info("%s (%.0f MB) is not read in advance: memory is short", file, size / MEGA)
            continue
        chosen[real] = size
        budget -= size
    return list(chosen.items())


def _blocks(files: Sequence[tuple[Path, int]]) -> Iterator[tuple[Path, int]]:
    for path, size in files:
        yield from ((path, offset) for offset in range(0, size, BLOCK_BYTES))


def _read_block(path: Path, offset: int, buffer: bytearray) -> int:
    """Read a block for the cache's sake; the bytes themselves are of no use here."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.preadv(fd, [buffer], offset)
    finally:
        os.close(fd)


def _be_nice() -> None:
    # Of the thread alone: on Linux each has its own.
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def find(names: Iterable[str], folders: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that `folder/name` or a bare name mean, below folders of models.

    Args:
        names: As PRELOAD_MODELS or a workflow names them.
        folders: Folders that hold a folder for each kind of model, the first to look in first.
    """
    for name in names:
        plain = name.replace("\\", "/")
        for folder in folders:
            found = folder / plain
            if found.is_file():
                yield found
                break
            if below := next((p for p in sorted(folder.glob(f"*/{_quoted(plain)}"))), None):
                yield below
                break
        else:
            log.info("%s is not read in advance: it lies in no folder of models", name)


def _quoted(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
