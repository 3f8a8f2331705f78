"""How long FLAC, WAV, MP3 and Ogg files play, in seconds, as their headers say; None: they do not.

Sources: RFC 9639 (FLAC), RFC 3533 and RFC 7845 (Ogg, Opus), the Vorbis I specification; for MP3
the frame header of ISO/IEC 11172-3 and the tag that encoders put into the first frame
(http://gabriel.mp3-tech.org/mp3infotag.html).
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

HEAD_BYTES = 4096
MAX_CHUNKS = 100
OGG_TAIL_BYTES = 70_000
"""Room for the largest page, the last of a stream."""

_OPUS_RATE = 48_000
_UNKNOWN_SIZE = 0xFFFFFFFF
_NO_GRANULE = 0xFFFFFFFFFFFFFFFF
_MP3_RATES = (44_100, 48_000, 32_000)
_MPEG_1, _MPEG_2 = 3, 2
_LAYER_3 = 1


def flac_seconds(file: BinaryIO) -> float | None:
    """Read STREAMINFO, the first block."""
    (bits,) = struct.unpack_from(">Q", file.read(26), 18)
    rate, samples = bits >> 44, bits & 0xFFFFFFFFF
    return samples / rate if rate and samples else None


def wav_seconds(file: BinaryIO) -> float | None:
    """Read the chunks `fmt ` and `data`; a file that was written as a stream has no size."""
    size = file.seek(0, os.SEEK_END)
    position, bytes_a_second = 12, 0
    for _ in range(MAX_CHUNKS):
        file.seek(position)
        head = file.read(20)
        if len(head) < 8:
            return None
        kind, length = struct.unpack_from("<4sI", head)
        if kind == b"fmt ":
            (bytes_a_second,) = struct.unpack_from("<I", head, 16)
        elif kind == b"data":
            there = size - position - 8
            played = there if length in {0, _UNKNOWN_SIZE} else min(length, there)
            return played / bytes_a_second if bytes_a_second else None
        position += 8 + length + length % 2
    return None


def mp3_seconds(file: BinaryIO) -> float | None:
    """Read the number of frames in the first one, where encoders note it.

    What an encoder adds before and after the sound (LAME and FFmpeg say how much) does not count.
    """
    tag = file.read(10)
    start = 0
    if tag[:3] == b"ID3":
        size = tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9]
        start = 10 + size + (10 if tag[5] & 0x10 else 0)
    file.seek(start)
    frame = file.read(HEAD_BYTES)
    (head,) = struct.unpack_from(">I", frame)
    version, layer, rate = head >> 19 & 3, head >> 17 & 3, head >> 10 & 3
    if head >> 21 != 0x7FF or version == 1 or layer != _LAYER_3 or rate == 3:
        return None
    is_mono = head >> 6 & 3 == 3
    if version == _MPEG_1:
        samples, at = 1152, 4 + (17 if is_mono else 32)
    else:
        samples, at = 576, 4 + (9 if is_mono else 17)
    if frame[at : at + 4] not in {b"Xing", b"Info"}:
        return None
    flags, frames = struct.unpack_from(">II", frame, at + 4)
    hertz = _MP3_RATES[rate] >> (_MPEG_1 - version if version else 2)
    added = _mp3_added(frame[at + 8 :], flags)
    return (frames * samples - added) / hertz if flags & 1 else None


def _mp3_added(rest: bytes, flags: int) -> int:
    """Read how many samples are not of the sound, from what follows the tag's flags."""
    encoder = sum(size for bit, size in enumerate((4, 4, 100, 4)) if flags >> bit & 1)
    if rest[encoder : encoder + 4] not in {b"LAME", b"Lavc", b"Lavf"}:
        return 0
    both = int.from_bytes(rest[encoder + 21 : encoder + 24])
    return (both >> 12) + (both & 0xFFF)


def ogg_seconds(file: BinaryIO) -> float | None:
    """Read the position of the last page, of an Opus or Vorbis stream that is alone in its file."""
    head = file.read(HEAD_BYTES)
    serial = head[14:18]
    packet = head[27 + head[26] :]
    if packet.startswith(b"OpusHead"):
        rate, (skipped,) = _OPUS_RATE, struct.unpack_from("<H", packet, 10)
    elif packet.startswith(b"\x01vorbis"):
        (rate,), skipped = struct.unpack_from("<I", packet, 12), 0
    else:
        return None
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - OGG_TAIL_BYTES))
    tail = file.read(OGG_TAIL_BYTES)
    last = tail.rfind(b"OggS")
    if last < 0 or tail[last + 14 : last + 18] != serial:
        return None
    (position,) = struct.unpack_from("<Q", tail, last + 6)
    return None if position == _NO_GRANULE or not rate else (position - skipped) / rate
