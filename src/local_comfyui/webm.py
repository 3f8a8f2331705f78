"""Writes an AV1 track as WebM (RFC 8794 and RFC 9559)."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from local_comfyui.av1 import Video

_EBML, _SEGMENT, _INFO, _TRACKS, _CLUSTER = (
    0x1A45DFA3,
    0x18538067,
    0x1549A966,
    0x1654AE6B,
    0x1F43B675,
)
_TAGS, _TAG, _TARGETS, _SIMPLE_TAG, _TAG_NAME, _TAG_STRING = (
    0x1254C367,
    0x7373,
    0x63C0,
    0x67C8,
    0x45A3,
    0x4487,
)
_TRACK_NUMBER = 1
_LONGEST_CLUSTER_MS = 30_000  # block times are signed 16-bit numbers within their cluster


def write(video: Video, metadata: Mapping[str, str]) -> bytes:
    """Build the file; ``metadata`` becomes tags."""
    header = _element(
        _EBML,
        _number(0x4286, 1),
        _number(0x42F7, 1),
        _number(0x42F2, 4),
        _number(0x42F3, 8),
        _element(0x4282, b"webm"),
        _number(0x4287, 4),
        _number(0x4285, 2),
    )
    duration_ms = len(video.samples) * 1000 / video.fps
    information = _element(
        _INFO,
        _number(0x2AD7B1, 1_000_000),
        _element(0x4489, struct.pack(">d", duration_ms)),
        _element(0x4D80, b"local_comfyui"),
        _element(0x5741, b"local_comfyui"),
    )
    parts = (information, _tracks(video), _tags(metadata), *_clusters(video))
    return header + _element(_SEGMENT, *parts)


def _element(identifier: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content) | 1 << 56  # always eight bytes: the marker, then the size
    length = (identifier.bit_length() + 7) // 8
    return identifier.to_bytes(length, "big") + size.to_bytes(8, "big") + content


def _number(identifier: int, value: int) -> bytes:
    return _element(identifier, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def _tracks(video: Video) -> bytes:
    picture = _element(0xE0, _number(0xB0, video.size[0]), _number(0xBA, video.size[1]))
    entry = _element(
        0xAE,
        _number(0xD7, _TRACK_NUMBER),
        _number(0x73C5, _TRACK_NUMBER),
        _number(0x83, 1),
        _number(0x9C, 0),
        _element(0x86, b"V_AV1"),
        _element(0x63A2, video.configuration),
        _number(0x23E383, round(1_000_000_000 / video.fps)),
        picture,
    )
    return _element(_TRACKS, entry)


def _tags(metadata: Mapping[str, str]) -> bytes:
    if not metadata:
        return b""
    tags = (
        _element(
            _SIMPLE_TAG,
            _element(_TAG_NAME, name.upper().encode()),
            _element(_TAG_STRING, text.encode()),
        )
        for name, text in metadata.items()
    )
    return _element(_TAGS, _element(_TAG, _element(_TARGETS), *tags))


def _clusters(video: Video) -> list[bytes]:
    """Samples with their times, a new cluster at every keyframe that is far enough."""
    clusters: list[bytes] = []
    blocks: list[bytes] = []
    cluster_start = 0
    for index, sample in enumerate(video.samples):
        time = round(index * 1000 / video.fps)
        if time - cluster_start > _LONGEST_CLUSTER_MS:
            clusters.append(_element(_CLUSTER, _number(0xE7, cluster_start), *blocks))
            blocks, cluster_start = [], time
        flags = 0x80 if index in video.keyframes else 0
        head = struct.pack(">BhB", 0x80 | _TRACK_NUMBER, time - cluster_start, flags)
        blocks.append(_element(0xA3, head, sample))
    clusters.append(_element(_CLUSTER, _number(0xE7, cluster_start), *blocks))
    return clusters
