"""The workflow that ComfyUI embeds in images: read it, write it elsewhere, take it out.

ComfyUI (0.3.64 nodes.py, comfy_extras/nodes_images.py) writes `prompt` and `workflow` as JSON into
PNG text chunks (of an animated PNG: `comf` chunks), and into the EXIF of WebP: tag 0x0110 holds
`prompt:{...}`, and the tags below it, from 0x010F down, hold `workflow:{...}` and the like.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

PROMPT_TAG = 0x0110
ORIENTATION_TAG = 0x0112
_TAGS = range(PROMPT_TAG, 0x0100, -1)

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_METADATA = {b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"comf"}
_WEBP_METADATA = {b"EXIF", b"XMP "}
_WEBP_METADATA_FLAGS = 0x08 | 0x04
_JPEG_METADATA = {0xE1, 0xED, 0xFE}  # EXIF and XMP, Photoshop, comment
_JPEG_START_OF_SCAN = 0xDA


class MalformedError(ValueError):
    """A file's structure is not that of its format."""


def embedded(image: Image.Image) -> dict[str, str]:
    """Read what ComfyUI embedded: names such as `prompt` and `workflow` with their JSON texts."""
    texts: dict[str, object] = dict(getattr(image, "text", {}))
    if not texts:
        exif = image.getexif()
        for tag in _TAGS:
            name, colon, text = str(exif.get(tag, "")).partition(":")
            if colon:
                texts[name] = text
    return {name: text for name, value in texts.items() if (text := _compact(str(value)))}


def exif_with(texts: dict[str, str], exif: Image.Exif) -> Image.Exif:
    """Add the texts to EXIF in ComfyUI's places."""
    names = sorted(texts, key=lambda name: name != "prompt")
    first = PROMPT_TAG if "prompt" in texts else PROMPT_TAG - 1
    for tag, name in zip(range(first, min(_TAGS) - 1, -1), names, strict=False):
        exif[tag] = f"{name}:{texts[name]}"
    return exif


def exif_without(texts: dict[str, str], exif: Image.Exif) -> Image.Exif:
    """Remove the texts from EXIF, for a format that has its own place for them."""
    for tag in _TAGS:
        if str(exif.get(tag, "")).partition(":")[0] in texts:
            del exif[tag]
    return exif


def png_texts(texts: dict[str, str]) -> PngInfo:
    """Make PNG text chunks of the texts."""
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    return info


def strip(image_format: str, source: Path) -> bytes | None:
    """Take the metadata out of an image without decoding it; None: not for this format.

    Raises:
        MalformedError: the file is damaged.
    """
    try:
        with source.open("rb") as file:
            match image_format:
                case "PNG":
                    return _strip_png(file)
                case "WEBP":
                    return _strip_webp(file)
                case "JPEG":
                    return _strip_jpeg(file)
    except struct.error:
        raise MalformedError("the image's structure is damaged") from None
    return None


def _strip_png(file: BinaryIO) -> bytes:
    kept = [file.read(len(_PNG_SIGNATURE))]
    while header := file.read(8):
        length, kind = struct.unpack(">I4s", header)
        rest = file.read(length + 4)
        if len(rest) != length + 4:
            raise MalformedError("the PNG is cut off")
        if kind not in _PNG_METADATA:
            kept += [header, rest]
    return b"".join(kept)


def _strip_webp(file: BinaryIO) -> bytes:
    file.seek(12)
    kept: list[bytes] = []
    while header := file.read(8):
        kind, length = struct.unpack("<4sI", header)
        rest = file.read(length + length % 2)
        if kind == b"VP8X" and rest:
            rest = bytes([rest[0] & ~_WEBP_METADATA_FLAGS]) + rest[1:]
        if kind not in _WEBP_METADATA:
            kept += [header, rest]
    body = b"WEBP" + b"".join(kept)
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def _strip_jpeg(file: BinaryIO) -> bytes:
    kept = [file.read(2)]
    while True:
        header = file.read(4)
        mark, marker, length = struct.unpack(">BBH", header)
        if mark != 0xFF or length < 2:
            raise MalformedError("the JPEG's segments are damaged")
        rest = file.read(length - 2)
        if marker == _JPEG_START_OF_SCAN:
            return b"".join([*kept, header, rest, file.read()])
        if marker not in _JPEG_METADATA:
            kept += [header, rest]


def _compact(text: str) -> str:
    """Write JSON again in ASCII, which is all that EXIF texts can hold; "": not JSON."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    return json.dumps(value) if isinstance(value, dict | list) else ""
