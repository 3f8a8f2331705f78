"""Writes FLAC without compressing: constant and verbatim subframes (RFC 9639).

Every player reads it; silence is small, anything else about as large as a WAV file.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from array import array
from collections.abc import Mapping, Sequence

_BLOCK_SAMPLES = 4096
_BITS = 16
_STREAMINFO, _VORBIS_COMMENT, _LAST = 0, 4, 0x80
_CONSTANT, _VERBATIM = 0x00, 0x02


def encode(channels: Sequence[array[int]], sample_rate: int, comments: Mapping[str, str]) -> bytes:
    """Encode 16-bit samples.

    Args:
        channels: One array of type ``h`` per channel, all of one length.
        sample_rate: In Hz, up to 655350.
        comments: Written as Vorbis comments, in upper case.
    """
    length = len(channels[0])
    frames = [
        _frame(number, [channel[start : start + _BLOCK_SAMPLES] for channel in channels])
        for number, start in enumerate(range(0, length, _BLOCK_SAMPLES))
    ]
    info = _stream_info(channels, sample_rate)
    comment = _vorbis_comment(comments)
    return b"".join(
        (b"fLaC", _block(_STREAMINFO, info), _block(_VORBIS_COMMENT | _LAST, comment), *frames)
    )


def _block(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + len(content).to_bytes(3, "big") + content


def _stream_info(channels: Sequence[array[int]], sample_rate: int) -> bytes:
    length = len(channels[0])
    packed = sample_rate << 44 | (len(channels) - 1) << 41 | (_BITS - 1) << 36 | length
    interleaved = array("h", bytes(2 * length * len(channels)))
    for index, channel in enumerate(channels):
        interleaved[index :: len(channels)] = channel
    digest = hashlib.md5(_bytes(interleaved, "little"), usedforsecurity=False).digest()
    sizes = struct.pack(">HH", _BLOCK_SAMPLES, _BLOCK_SAMPLES) + bytes(6)
    return sizes + packed.to_bytes(8, "big") + digest


def _vorbis_comment(comments: Mapping[str, str]) -> bytes:
    texts = [f"{name.upper()}={text}".encode() for name, text in comments.items()]
    vendor = b"local_comfyui"
    parts = [struct.pack("<I", len(vendor)) + vendor, struct.pack("<I", len(texts))]
    parts += [struct.pack("<I", len(text)) + text for text in texts]
    return b"".join(parts)


def _frame(number: int, channels: Sequence[array[int]]) -> bytes:
    sixteen_bit_length, sixteen_bits = 0b0111, 0b100
    header = bytes(
        (0xFF, 0xF8, sixteen_bit_length << 4, (len(channels) - 1) << 4 | sixteen_bits << 1)
    )
    # Frame numbers are coded like UTF-8, which Python's encoder covers far enough.
    header += chr(number).encode("utf-8", "surrogatepass")
    header += struct.pack(">H", len(channels[0]) - 1)
    header += bytes([checksum(header, CRC8, 8)])
    content = header + b"".join(_subframe(channel) for channel in channels)
    return content + struct.pack(">H", checksum(content, CRC16, 16))


def _subframe(samples: array[int]) -> bytes:
    if samples.count(samples[0]) == len(samples):
        return bytes([_CONSTANT]) + struct.pack(">h", samples[0])
    return bytes([_VERBATIM]) + _bytes(samples, "big")


def _bytes(samples: array[int], order: str) -> bytes:
    if sys.byteorder != order:
        samples = array("h", samples)
        samples.byteswap()
    return samples.tobytes()


def _table(polynomial: int, bits: int) -> list[int]:
    table = []
    for value in range(256):
        remainder = value << (bits - 8)
        for _ in range(8):
            carry = remainder >> (bits - 1)
            remainder = (remainder << 1) ^ (polynomial if carry else 0)
            remainder &= (1 << bits) - 1
        table.append(remainder)
    return table


CRC8 = _table(0x07, 8)
CRC16 = _table(0x8005, 16)


def checksum(content: bytes, table: list[int], bits: int) -> int:
    """The remainder of a frame or of its header, by the table of its polynomial."""
    remainder, mask, shift = 0, (1 << bits) - 1, bits - 8
    for byte in content:
        remainder = ((remainder << 8) & mask) ^ table[(remainder >> shift) ^ byte]
    return remainder
