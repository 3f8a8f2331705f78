"""The structure of MP4 and Matroska files, walked part by part, within bounds."""

from __future__ import annotations

import struct
from collections.abc import Iterator

MAX_PARTS = 200_000
"""Parts of a file that are looked at: chunks, boxes, elements, tags, pages."""


class DamagedError(ValueError):
    """A file's structure is not that of its format."""


class Parts:
    """Counts the parts of one file."""

    def __init__(self) -> None:
        self._parts = 0

    def part(self) -> None:
        """Count a part of the file.

        Raises:
            DamagedError: there are too many.
        """
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise DamagedError("has too many parts")


def boxes(data: memoryview, parts: Parts) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the boxes of an MP4 or MOV: their kind and their content."""
    position = 0
    while position + 8 <= len(data):
        parts.part()
        size, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if size == 1 and position + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, position + 8)
            head = 16
        elif size == 0:
            size = len(data) - position
        if size < head:
            return
        yield kind, data[position + head : position + size]
        position += size


CLUSTER = 0x1F43B675
"""The element of a WebM or MKV that has pictures and sound."""


def elements(data: memoryview, parts: Parts) -> Iterator[tuple[int, memoryview]]:
    """Yield the elements of a WebM or MKV: their id and their content.

    Raises:
        DamagedError: an element is cut off.
    """
    position = 0
    while position < len(data):
        parts.part()
        kind, position = _vint(data, position, keep_mark=True)
        size, position = _vint(data, position)
        if size is None and kind == CLUSTER:  # of a live stream: go on with what is inside
            continue
        end = len(data) if size is None else position + size
        if kind is not None:
            yield kind, data[position:end]
        position = end


def _vint(data: memoryview, position: int, *, keep_mark: bool = False) -> tuple[int | None, int]:
    """Read a number of variable length; None: "unknown"."""
    first = data[position] if position < len(data) else 0
    length = 9 - first.bit_length()
    if length > 8 or position + length > len(data):
        raise DamagedError("is cut off or damaged")
    value = int.from_bytes(data[position : position + length])
    if not keep_mark:
        value &= (1 << 7 * length) - 1
        if value == (1 << 7 * length) - 1:
            return None, position + length
    return value, position + length
