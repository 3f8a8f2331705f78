"""Where the content of an input file goes: to the disk, in pieces, no more than allowed."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from worker_comfyui.config import MEGA
from worker_comfyui.errors import InputTooLarge, disk_errors


class Budget:
    """How many bytes the input files of one job may have together. Safe to use from any thread."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._taken = 0
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Take bytes; a negative number gives them back.

        Raises:
            InputTooLarge: there are not so many left.
        """
        with self._lock:
            self._taken += count
            if self._taken > self._max_bytes:
                raise InputTooLarge(
                    "makes the files of this job more than "
                    f"{self._max_bytes / MEGA:g} MB together (MAX_INPUTS_MB)"
                )


class Sink:
    """An input file that is being written.

    Attributes:
        max_bytes: How large it may become.
        size: Its bytes so far.
    """

    def __init__(self, path: Path, max_bytes: int, budget: Budget) -> None:
        self.max_bytes = max_bytes
        self.size = 0
        self._budget = budget
        self._hash = hashlib.sha256()
        with disk_errors():
            self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with disk_errors():
            self._file.close()

    @property
    def sha256(self) -> str:
        """The hash of what was written."""
        return self._hash.hexdigest()

    def expect(self, size: int) -> None:
        """Refuse a file of this size before anything of it comes.

        Raises:
            InputTooLarge: it is larger than allowed.
        """
        if size > self.max_bytes:
            raise InputTooLarge(f"has more than {self.max_bytes / MEGA:g} MB (MAX_INPUT_MB)")

    def write(self, piece: bytes) -> None:
        """Append a piece.

        Raises:
            InputTooLarge: the file, or all files of the job together, are larger than allowed.
            DiskFull: there is no space for it.
        """
        self.expect(self.size + len(piece))
        self._budget.take(len(piece))  # before it is written: the disk is what is bounded
        self.size += len(piece)
        self._hash.update(piece)
        with disk_errors():
            self._file.write(piece)

    def restart(self) -> None:
        """Drop what was written, for another attempt."""
        with disk_errors():
            self._file.seek(0)
            self._file.truncate()
        self._budget.take(-self.size)
        self.size = 0
        self._hash = hashlib.sha256()
