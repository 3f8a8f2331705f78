"""PNG, WebP, JPEG, EXR and SVG.

ComfyUI (0.33 nodes.py, comfy_api/latest/_ui.py, comfy_extras/nodes_images.py) writes PNG text
chunks, of animated PNGs `comf` chunks, the EXIF of WebP (tags from 0x0110 down hold
`prompt:{...}`), EXR attributes, and a comment in the metadata of SVG.
"""

from __future__ import annotations

import html
import struct
import zlib

from worker_comfyui.media.containers import DamagedError
from worker_comfyui.workflows.embedded.texts import MAX_TEXT_BYTES, Collected

PNG = b"\x89PNG\r\n\x1a\n"
EXR = b"\x76\x2f\x31\x01"
_EXIF_TAGS = range(0x0101, 0x0111)
_ASCII = 2


def read_png(data: memoryview, found: Collected) -> None:
    """Read text chunks; also those behind the picture, where animated PNGs have them."""
    position = len(PNG)
    while position + 8 <= len(data):
        found.part()
        length, kind = struct.unpack_from(">I4s", data, position)
        content = data[position + 8 : position + 8 + length]
        if kind in _CHUNKS:
            _CHUNKS[kind](bytes(content), found)
        position += length + 12


def _plain(content: bytes, found: Collected) -> None:
    name, _, text = content.partition(b"\0")
    found.add(name.decode("latin-1"), text)


def _compressed(content: bytes, found: Collected) -> None:
    name, _, rest = content.partition(b"\0")
    found.add(name.decode("latin-1"), _inflated(rest[1:]))


def _international(content: bytes, found: Collected) -> None:
    name, _, rest = content.partition(b"\0")
    text = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    found.add(name.decode("latin-1"), _inflated(text) if rest[:1] == b"\1" else text)


def _inflated(content: bytes) -> bytes:
    try:
        unpacked = zlib.decompressobj()
        text = unpacked.decompress(content, MAX_TEXT_BYTES)
    except zlib.error:
        raise DamagedError("has a damaged text chunk") from None
    if unpacked.unconsumed_tail:
        raise DamagedError("has more text than a workflow needs")
    return text


_CHUNKS = {b"tEXt": _plain, b"comf": _plain, b"zTXt": _compressed, b"iTXt": _international}


def read_webp(data: memoryview, found: Collected) -> None:
    """Read the EXIF chunk."""
    position = 12
    while position + 8 <= len(data):
        found.part()
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"EXIF":
            _read_exif(bytes(data[position + 8 : position + 8 + length]), found)
        position += 8 + length + length % 2


def read_jpeg(data: memoryview, found: Collected) -> None:
    """Read the EXIF segment; this worker keeps the workflow there when it converts to JPEG."""
    position = 2
    while position + 4 <= len(data):
        found.part()
        mark, marker, length = struct.unpack_from(">BBH", data, position)
        if mark != 0xFF or marker == 0xDA or length < 2:  # 0xDA: the picture begins
            return
        content = data[position + 4 : position + 2 + length]
        if marker == 0xE1 and bytes(content[:6]) == b"Exif\0\0":
            _read_exif(bytes(content), found)
        position += 2 + length


def _read_exif(content: bytes, found: Collected) -> None:
    """Read the texts of EXIF's first directory, which has the form of a TIFF.

    Source: https://developer.adobe.com/content/dam/udp/en/open/standards/tiff/TIFF6.pdf, section 2
    """
    tiff = content.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        raise DamagedError("has damaged EXIF data")
    (first,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, first)
    wanted = set(_EXIF_TAGS)
    for position in range(first + 2, first + 2 + 12 * count, 12):
        found.part()
        tag, kind, length = struct.unpack_from(f"{order}HHI", tiff, position)
        if tag in wanted and kind == _ASCII:
            wanted.remove(tag)  # a text may be as long as the file, and stand there once
            (at,) = struct.unpack_from(f"{order}I", tiff, position + 8)
            text = tiff[at : at + length] if length > 4 else b""
            name, colon, value = text.partition(b":")
            if colon:
                found.add(name.decode("latin-1"), value)


def read_exr(data: memoryview, found: Collected) -> None:
    """Read the header's text attributes."""
    position = 8
    while position < len(data) and data[position]:
        found.part()
        name, position = _terminated(data, position)
        kind, position = _terminated(data, position)
        (length,) = struct.unpack_from("<I", data, position)
        if kind == b"string":
            found.add(name.decode("latin-1"), bytes(data[position + 4 : position + 4 + length]))
        position += 4 + length


def _terminated(data: memoryview, position: int) -> tuple[bytes, int]:
    name, end, _ = bytes(data[position : position + 256]).partition(b"\0")
    if not end:
        raise DamagedError("has a damaged header")
    return name, position + len(name) + 1


def read_svg(data: memoryview, found: Collected) -> None:
    """Read the JSON that ComfyUI puts into an SVG's metadata, or else a picture of a workflow.

    Such pictures are made by ComfyUI-Custom-Scripts (web/js/workflowImage.js): the editor's file is
    the last description, escaped.
    """
    if len(data) > MAX_TEXT_BYTES:
        return
    text = bytes(data).decode("utf-8", "replace")
    start = text.find("<![CDATA[", max(text.find("<metadata>"), 0))
    end = text.find("]]>", start)
    if 0 <= start < end:
        found.add("comment", text[start + 9 : end])
        return
    end = text.rfind("</desc>")
    start = text.rfind("<desc>", 0, max(end, 0))
    if start >= 0:
        found.add("workflow", html.unescape(text[start + 6 : end]))
