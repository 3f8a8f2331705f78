"""What the headers of MP4 and MOV, WebM and MKV say of their tracks.

Sources: ISO/IEC 14496-12 (boxes `mvhd`, `tkhd`, `mdhd`, `hdlr`, `stts`); RFC 9559 (Matroska).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

from worker_comfyui.media.containers import CLUSTER, DamagedError, Parts, boxes, elements

MAX_MOVIE_BYTES = 32_000_000
"""Of the `moov` box: it grows with the number of frames."""
MAX_TOP_BOXES = 1000
MATROSKA_HEAD_BYTES = 1_000_000
"""Where the tracks of a Matroska file stand, before all pictures."""

_EBML_NUMBER_BYTES = 8
_SEGMENT, _INFO, _SCALE, _DURATION = 0x18538067, 0x1549A966, 0x2AD7B1, 0x4489
_TRACKS, _TRACK, _TRACK_TYPE, _FRAME_NS = 0x1654AE6B, 0xAE, 0x83, 0x23E383
_VIDEO, _WIDTH, _HEIGHT = 0xE0, 0xB0, 0xBA
_IS_PICTURE, _IS_SOUND = 1, 2


@dataclass(frozen=True, slots=True)
class PictureTrack:
    """The first track of pictures: its frames a second, None where it does not say."""

    fps: float | None
    width: int
    height: int


@dataclass(slots=True)
class Tracks:
    """What a file has."""

    seconds: float | None = None
    picture: PictureTrack | None = None
    has_sound: bool = False


def read_isobmff(file: BinaryIO) -> Tracks:
    """Read an MP4 or MOV.

    Raises:
        DamagedError, struct.error: it is damaged.
    """
    found, parts = Tracks(), Parts()
    for kind, content in boxes(_movie(file), parts):
        if kind == b"mvhd":
            scale, duration = _time(content)
            found.seconds = duration / scale if scale else None
        elif kind == b"trak":
            _read_track(content, found, parts)
    return found


def _movie(file: BinaryIO) -> memoryview:
    """Read the `moov` box, which may stand behind all pictures."""
    size = file.seek(0, os.SEEK_END)
    position = 0
    for _ in range(MAX_TOP_BOXES):
        file.seek(position)
        head = file.read(16)
        if len(head) < 8:
            break
        length, kind = struct.unpack_from(">I4s", head)
        skip = 8
        if length == 1:
            (length,), skip = struct.unpack_from(">Q", head, 8), 16
        elif length == 0:
            length = size - position
        if length < skip:
            break
        if kind == b"moov":
            if length > MAX_MOVIE_BYTES:
                break
            file.seek(position + skip)
            return memoryview(file.read(length - skip))
        position += length
        if position >= size:
            break
    raise DamagedError("has no header that can be read")


def _read_track(content: memoryview, found: Tracks, parts: Parts) -> None:
    track = dict(boxes(content, parts))
    media = dict(boxes(track.get(b"mdia", memoryview(b"")), parts))
    handler = bytes(media.get(b"hdlr", memoryview(b""))[8:12])
    if handler == b"soun":
        found.has_sound = True
    elif handler == b"vide" and found.picture is None:
        found.picture = _picture(track, media, parts)


def _picture(
    track: dict[bytes, memoryview], media: dict[bytes, memoryview], parts: Parts
) -> PictureTrack:
    scale, _ = _time(media[b"mdhd"]) if b"mdhd" in media else (0, 0)
    inner = dict(boxes(media.get(b"minf", memoryview(b"")), parts))
    samples = dict(boxes(inner.get(b"stbl", memoryview(b"")), parts))
    frames, ticks = _frames(samples.get(b"stts", memoryview(b"")))
    fps = frames * scale / ticks if ticks else None
    # The size at which it is shown, in 16.16 bits, are the last fields of `tkhd`.
    width, height = struct.unpack(">II", track.get(b"tkhd", memoryview(b""))[-8:])
    return PictureTrack(fps, width >> 16, height >> 16)


def _frames(durations: memoryview) -> tuple[int, int]:
    """Count a track's frames, and the ticks of its time scale that they last.

    The duration in `mdhd` may be longer: where frames are stored in another order than they are
    shown, it has the delay of the first one.
    """
    frames = ticks = 0
    for count, each in struct.iter_unpack(">II", durations[8:]):
        frames += count
        ticks += count * each
    return frames, ticks


def _time(content: memoryview) -> tuple[int, int]:
    """Read time scale and duration of an `mvhd` or `mdhd`; 0 for a duration that is unknown."""
    is_long = content[0] == 1
    scale, duration = struct.unpack_from(
        ">IQ" if is_long else ">II", content, 20 if is_long else 12
    )
    unknown = 0xFFFFFFFFFFFFFFFF if is_long else 0xFFFFFFFF
    return scale, 0 if duration == unknown else duration


def read_matroska(file: BinaryIO) -> Tracks:
    """Read a WebM or MKV.

    Raises:
        DamagedError, struct.error: it is damaged.
    """
    found, parts = Tracks(), Parts()
    data = memoryview(file.read(MATROSKA_HEAD_BYTES))
    for kind, content in elements(data, parts):
        if kind == _SEGMENT:
            for part, inner in elements(content, parts):
                if part == _INFO:
                    found.seconds = _seconds(dict(elements(inner, parts)))
                elif part == _TRACKS:
                    _read_tracks(inner, found, parts)
                elif part == CLUSTER:
                    break
            return found
    raise DamagedError("has no segment")


def _seconds(info: dict[int, memoryview]) -> float | None:
    """Read the duration: a number of ticks, whose length is in nanoseconds."""
    value = info.get(_DURATION)
    if value is None:
        return None
    (ticks,) = struct.unpack(">f" if len(value) == 4 else ">d", value)
    return float(ticks) * (_number(info, _SCALE) or 1_000_000) / 1e9


def _read_tracks(content: memoryview, found: Tracks, parts: Parts) -> None:
    for kind, inner in elements(content, parts):
        if kind != _TRACK:
            continue
        track = dict(elements(inner, parts))
        is_a = _number(track, _TRACK_TYPE)
        if is_a == _IS_SOUND:
            found.has_sound = True
        elif is_a == _IS_PICTURE and found.picture is None:
            frame_ns = _number(track, _FRAME_NS)
            size = dict(elements(track.get(_VIDEO, memoryview(b"")), parts))
            fps = 1e9 / frame_ns if frame_ns else None
            found.picture = PictureTrack(fps, _number(size, _WIDTH), _number(size, _HEIGHT))


def _number(values: dict[int, memoryview], name: int) -> int:
    return int.from_bytes(values.get(name, memoryview(b""))[:_EBML_NUMBER_BYTES])
