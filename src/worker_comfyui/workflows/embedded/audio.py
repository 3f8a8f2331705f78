"""FLAC, Ogg (Opus and Vorbis), and MP3: ComfyUI's encoder writes ordinary comments there."""

from __future__ import annotations

import struct

from worker_comfyui.media.containers import DamagedError
from worker_comfyui.workflows.embedded.texts import MAX_TEXT_BYTES, Collected

FLAC = b"fLaC"
OGG = b"OggS"
ID3 = b"ID3"

_COMMENTS = 4
_COMMENT_HEADS = (b"OpusTags", b"\x03vorbis")
_ENCODINGS = ("latin-1", "utf-16", "utf-16-be", "utf-8")


def read_flac(data: memoryview, found: Collected) -> None:
    """Read the comment block."""
    position, last = 4, False
    while position + 4 <= len(data) and not last:
        found.part()
        (head,) = struct.unpack_from(">I", data, position)
        last, kind, length = bool(head >> 31), head >> 24 & 0x7F, head & 0xFFFFFF
        if kind == _COMMENTS:
            _read_comments(data[position + 4 : position + 4 + length], found)
        position += 4 + length


def read_ogg(data: memoryview, found: Collected) -> None:
    """Read the comment packet, the second of a stream, which may go over many pages."""
    packet, count, position = bytearray(), 0, 0
    while position + 27 <= len(data) and bytes(data[position : position + 4]) == OGG:
        found.part()
        segments = bytes(data[position + 27 : position + 27 + data[position + 26]])
        position += 27 + len(segments)
        for length in segments:
            if count == 1:
                packet += data[position : position + length]
            position += length
            # A packet ends with a segment that is not full (RFC 3533, 6).
            count += length < 255
            if count == 2 or len(packet) > MAX_TEXT_BYTES:
                _read_packet(packet, found)
                return


def _read_packet(packet: bytearray, found: Collected) -> None:
    for head in _COMMENT_HEADS:
        if packet.startswith(head):
            _read_comments(memoryview(packet)[len(head) :], found)


def _read_comments(data: memoryview, found: Collected) -> None:
    position = 4 + _length(data, 0)
    count = _length(data, position)
    position += 4
    for _ in range(count):
        found.part()
        length = _length(data, position)
        name, equals, text = bytes(data[position + 4 : position + 4 + length]).partition(b"=")
        if equals:
            found.add(name.decode("utf-8", "replace"), text)
        position += 4 + length


def _length(data: memoryview, position: int) -> int:
    if position + 4 > len(data):
        raise DamagedError("has comments that are cut off")
    return int(struct.unpack_from("<I", data, position)[0])


def read_id3(data: memoryview, found: Collected) -> None:
    """Read the user-defined texts (TXXX) of an MP3's tag: https://id3.org/id3v2.3.0 and v2.4."""
    if len(data) < 10:
        raise DamagedError("is cut off")
    version, flags = data[3], data[5]
    tag = data[10 : 10 + _synchsafe(data, 6)]
    if flags & 0x80:
        # Unsynchronised: a zero was put behind every 0xFF, lest it looks like sound.
        tag = memoryview(bytes(tag[:MAX_TEXT_BYTES]).replace(b"\xff\x00", b"\xff"))
    position = _extended_header(tag, version) if flags & 0x40 else 0
    while position + 10 <= len(tag) and tag[position]:
        found.part()
        kind = bytes(tag[position : position + 4])
        whole = int.from_bytes(tag[position + 4 : position + 8])
        length = _synchsafe(tag, position + 4) if version >= 4 else whole
        if kind == b"TXXX" and length:
            _read_user_text(bytes(tag[position + 10 : position + 10 + length]), found)
        position += 10 + length


def _synchsafe(data: memoryview, position: int) -> int:
    value = 0
    for byte in data[position : position + 4]:
        value = value << 7 | byte & 0x7F
    return value


def _extended_header(tag: memoryview, version: int) -> int:
    # Only v2.4 counts the length itself.
    return _synchsafe(tag, 0) if version >= 4 else 4 + int.from_bytes(tag[:4])


def _read_user_text(content: bytes, found: Collected) -> None:
    if not content:
        return
    encoding = _ENCODINGS[content[0]] if content[0] < len(_ENCODINGS) else "latin-1"
    end = b"\0\0" if encoding.startswith("utf-16") else b"\0"
    body = content[1:]
    split = body.find(end)
    # Between two characters of UTF-16 it is no end.
    while len(end) == 2 and split % 2 == 1:
        split = body.find(end, split + 1)
    if split >= 0:
        name = body[:split].decode(encoding, "replace")
        found.add(name, body[split + len(end) :].decode(encoding, "replace"))
