"""AV1 video from images, by way of Pillow's AVIF encoder.

An animated AVIF file is an ISO base media file with an AV1 track. Its samples and its decoder
configuration are taken out here; `mp4` and `webm` put them into files that video players know.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
_SAMPLE_ENTRY_BYTES = 8 + 78  # of a visual sample entry, before the boxes in it


@dataclass(frozen=True)
class Video:
    """An encoded track."""

    size: tuple[int, int]
    fps: float
    samples: tuple[bytes, ...]
    """One per frame."""
    keyframes: frozenset[int]
    """Indexes of the samples that need no other one."""
    configuration: bytes
    """The content of the ``av1C`` box, which is also WebM's codec private data."""


def encode(frames: Sequence[Image.Image], fps: float, quality: int) -> Video:
    """Encode frames of one size.

    Args:
        frames: At least one, mode RGB.
        fps: Frames per second.
        quality: 0 to 100, as AVIF means it.
    """
    # Two frames at least: a single one would become a still image, which has no track.
    padded = [*frames, frames[0]] if len(frames) == 1 else list(frames)
    buffer = io.BytesIO()
    padded[0].save(
        buffer,
        "AVIF",
        save_all=True,
        append_images=padded[1:],
        duration=max(1, round(1000 / fps)),
        quality=quality,
        speed=8,
        subsampling="4:2:0",
    )
    content = buffer.getvalue()
    boxes = dict(_boxes(content, 0, len(content)))
    samples = _samples(content, boxes)[: len(frames)]
    entry = boxes[b"stsd"]
    inner = dict(_boxes(content, entry[0] + 8 + _SAMPLE_ENTRY_BYTES, entry[1]))
    start, end = inner[b"av1C"]
    return Video(
        size=padded[0].size,
        fps=fps,
        samples=tuple(samples),
        keyframes=_keyframes(content, boxes, len(samples)),
        configuration=content[start:end],
    )


def _boxes(content: bytes, start: int, end: int) -> list[tuple[bytes, tuple[int, int]]]:
    """Kinds and places of the boxes in a range, those within containers included."""
    found = []
    while start < end:
        size, kind = struct.unpack_from(">I4s", content, start)
        place = (start + 8, start + size)
        found.append((kind, place))
        if kind in _CONTAINERS:
            found += _boxes(content, *place)
        start += size
    return found


def _table(content: bytes, place: tuple[int, int], skip: int, columns: int) -> list[int]:
    """The 32-bit numbers of a full box, after its version, its flags and ``skip`` numbers."""
    start = place[0] + 4 + 4 * skip
    (count,) = struct.unpack_from(">I", content, start)
    return list(struct.unpack_from(f">{count * columns}I", content, start + 4))


def _samples(content: bytes, boxes: dict[bytes, tuple[int, int]]) -> list[bytes]:
    sizes = _table(content, boxes[b"stsz"], 1, 1)
    if not sizes:  # one size for all
        size, count = struct.unpack_from(">II", content, boxes[b"stsz"][0] + 4)
        sizes = [size] * count
    chunks = _table(content, boxes[b"stco"], 0, 1)
    runs = _table(content, boxes[b"stsc"], 0, 3)
    samples: list[bytes] = []
    for index, offset in enumerate(chunks, start=1):
        in_chunk = [runs[row + 1] for row in range(0, len(runs), 3) if runs[row] <= index][-1]
        end = offset
        for size in sizes[len(samples) : len(samples) + in_chunk]:
            start, end = end, end + size
            samples.append(content[start:end])
    return samples


def _keyframes(content: bytes, boxes: dict[bytes, tuple[int, int]], count: int) -> frozenset[int]:
    if b"stss" not in boxes:
        return frozenset(range(count))
    return frozenset(number - 1 for number in _table(content, boxes[b"stss"], 0, 1))
