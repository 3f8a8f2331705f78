"""An unfinished file on the disk: its bytes, and a journal of which pieces are there.

Each piece has its checksum in the journal, so that what a machine lost when it went down is seen.
Two that write the same piece by mistake write the same bytes: a folder is for one content only.
"""

from __future__ import annotations

import os
import re
import shutil
import zlib
from pathlib import Path
from typing import Self

PIECE_BYTES = 8 << 20
_DATA = "data"
_JOURNAL = "journal"
# A line that was cut off lacks its dot, and counts for nothing.
_LINE = re.compile(r"^(\d{1,9}) ([0-9a-f]{8}|gone) \.$", re.MULTILINE)


class Partial:
    """The pieces of one file that are here. Safe to use from several threads."""

    def __init__(self, folder: Path, size: int, piece_bytes: int = PIECE_BYTES) -> None:
        """Open what an earlier attempt left, or begin anew where it is of another size.

        Raises:
            OSError: the folder cannot be used.
        """
        self.folder = folder
        self.size = size
        self.piece_bytes = piece_bytes
        self.count = -(-size // piece_bytes)
        self._checksums: dict[int, int] = {}
        self._data, self._journal = self._open()

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.folder / _DATA

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._data)
        os.close(self._journal)

    def length(self, index: int) -> int:
        """Return how many bytes a piece has."""
        return min(self.piece_bytes, self.size - index * self.piece_bytes)

    def missing(self) -> list[int]:
        """List the pieces that are not here, in order."""
        return [index for index in range(self.count) if index not in self._checksums]

    @property
    def done(self) -> int:
        """How many bytes are here."""
        return sum(map(self.length, list(self._checksums)))  # a copy: other threads add to it

    def write(self, index: int, content: memoryview) -> None:
        """Put a piece in its place, and note that it is there.

        Raises:
            OSError: the disk is full, or broken.
        """
        offset, left = index * self.piece_bytes, content
        while left:
            written = os.pwrite(self._data, left, offset)
            offset, left = offset + written, left[written:]
        self._note(index, zlib.crc32(content))

    def read(self, index: int, buffer: bytearray) -> memoryview | None:
        """Read a piece again; None if it is not what was written."""
        view = memoryview(buffer)[: self.length(index)]
        got = 0
        while got < len(view):
            count = os.preadv(self._data, [view[got:]], index * self.piece_bytes + got)
            if not count:
                return None
            got += count
        return view if zlib.crc32(view) == self._checksums.get(index) else None

    def forget(self, index: int) -> None:
        """Take a piece for missing, now and when the folder is opened again."""
        os.write(self._journal, f"{index} gone .\n".encode())
        self._checksums.pop(index, None)

    def sync(self) -> None:
        """Let the bytes that were written reach the disk."""
        os.fsync(self._data)

    def _note(self, index: int, checksum: int) -> None:
        os.write(self._journal, f"{index} {checksum:08x} .\n".encode())
        self._checksums[index] = checksum

    def _open(self) -> tuple[int, int]:
        self.folder.mkdir(parents=True, exist_ok=True)
        head = f"{self.size} {self.piece_bytes}\n"
        journal = self.folder / _JOURNAL
        text = journal.read_text("ascii", "replace") if journal.exists() else ""
        if not text.startswith(head):
            self.path.unlink(missing_ok=True)
            text = head
            fresh = journal.with_name(f"{_JOURNAL}-{os.getpid()}")
            fresh.write_text(head)
            fresh.replace(journal)
        data = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        notes = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        # After a crash the journal may be there without the bytes.
        if os.fstat(data).st_size:
            self._checksums = _entries(text, self.count)
        if not text.endswith("\n"):  # the last line was cut off
            os.write(notes, b"\n")
        return data, notes


def _entries(text: str, count: int) -> dict[int, int]:
    found: dict[int, int] = {}
    for line in _LINE.finditer(text):
        index = int(line[1])
        if line[2] == "gone":
            found.pop(index, None)
        elif index < count:
            found[index] = int(line[2], 16)
    return found


def done_on_disk(folder: Path) -> tuple[int, int] | None:
    """Return bytes that are here and of the whole, as another process' journal says."""
    try:
        text = (folder / _JOURNAL).read_text("ascii", "replace")
        size, piece_bytes = map(int, text.split("\n", 1)[0].split())
    except (OSError, ValueError):
        return None
    pieces = len(_entries(text, -(-size // piece_bytes)))
    return min(pieces * piece_bytes, size), size


def remove(folder: Path) -> None:
    """Remove an unfinished file."""
    shutil.rmtree(folder, ignore_errors=True)
