"""Writes an AV1 track as MP4 (ISO/IEC 14496-12, and the AV1 binding to it)."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from local_comfyui.av1 import Video

_TIMESCALE = 90_000
_UNITY_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_UNDETERMINED_LANGUAGE = 0x55C4
_ENABLED_AND_IN_MOVIE = 3


def write(video: Video, metadata: Mapping[str, str]) -> bytes:
    """Build the file; ``metadata`` becomes text entries of its user data."""
    file_type = _box(b"ftyp", b"isom", struct.pack(">I", 0x200), b"isomav01iso2mp41")
    data = _box(b"mdat", *video.samples)
    # The sample table holds the place of the data, so its size has to be known first.
    offset = len(file_type) + len(_movie(video, metadata, 0)) + 8
    return file_type + _movie(video, metadata, offset) + data


def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _full_box(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)


def _frame_duration(video: Video) -> int:
    return round(_TIMESCALE / video.fps)


def _movie(video: Video, metadata: Mapping[str, str], offset: int) -> bytes:
    duration = _frame_duration(video) * len(video.samples)
    header = _full_box(
        b"mvhd",
        struct.pack(">IIIIIH10x", 0, 0, _TIMESCALE, duration, 0x10000, 0x100),
        _UNITY_MATRIX,
        bytes(24),
        struct.pack(">I", 2),
    )
    return _box(b"moov", header, _track(video, duration, offset), _user_data(metadata))


def _track(video: Video, duration: int, offset: int) -> bytes:
    width, height = video.size
    header = _full_box(
        b"tkhd",
        struct.pack(">IIIII8xHHHH", 0, 0, 1, 0, duration, 0, 0, 0, 0),
        _UNITY_MATRIX,
        struct.pack(">II", width << 16, height << 16),
        flags=_ENABLED_AND_IN_MOVIE,
    )
    media_header = _full_box(
        b"mdhd", struct.pack(">IIIIHH", 0, 0, _TIMESCALE, duration, _UNDETERMINED_LANGUAGE, 0)
    )
    handler = _full_box(b"hdlr", bytes(4), b"vide", bytes(12), b"video\0")
    location = _full_box(b"dref", struct.pack(">I", 1), _full_box(b"url ", flags=1))
    information = _box(
        b"minf",
        _full_box(b"vmhd", bytes(8), flags=1),
        _box(b"dinf", location),
        _sample_table(video, offset),
    )
    return _box(b"trak", header, _box(b"mdia", media_header, handler, information))


def _sample_table(video: Video, offset: int) -> bytes:
    count = len(video.samples)
    sizes = [len(sample) for sample in video.samples]
    keyframes = sorted(index + 1 for index in video.keyframes)
    entry = _box(
        b"av01",
        struct.pack(">6xH16xHHIIIH32sHh", 1, *video.size, 72 << 16, 72 << 16, 0, 1, b"", 24, -1),
        _box(b"av1C", video.configuration),
    )
    return _box(
        b"stbl",
        _full_box(b"stsd", struct.pack(">I", 1), entry),
        _full_box(b"stts", struct.pack(">III", 1, count, _frame_duration(video))),
        _full_box(b"stss", struct.pack(f">I{len(keyframes)}I", len(keyframes), *keyframes)),
        _full_box(b"stsc", struct.pack(">IIII", 1, 1, count, 1)),
        _full_box(b"stsz", struct.pack(f">II{count}I", 0, count, *sizes)),
        _full_box(b"stco", struct.pack(">II", 1, offset)),
    )


def _user_data(metadata: Mapping[str, str]) -> bytes:
    """QuickTime's named metadata: a list of keys and a list of texts."""
    if not metadata:
        return b""
    keys = b"".join(_box(b"mdta", name.encode()) for name in metadata)
    texts = b"".join(
        struct.pack(">II", 8 + len(text), number) + text
        for number, text in enumerate(
            (
                _box(b"data", struct.pack(">II", 1, 0), value.encode())
                for value in metadata.values()
            ),
            start=1,
        )
    )
    return _box(
        b"meta",
        _full_box(b"hdlr", bytes(4), b"mdta", bytes(13)),
        _full_box(b"keys", struct.pack(">I", len(metadata)), keys),
        _box(b"ilst", texts),
    )
