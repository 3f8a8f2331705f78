"""MP4 and MOV, WebM and MKV, and GLB.

ComfyUI's encoder writes names and texts into `moov/udta/meta` (QuickTime keys) and into Matroska's
tags; VideoHelperSuite one comment with both. A GLB has them in its JSON.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

from worker_comfyui.media.containers import DamagedError, boxes, elements
from worker_comfyui.workflows.embedded.texts import Collected

GLB = b"glTF"
EBML = b"\x1a\x45\xdf\xa3"
MAX_DEPTH = 8

_BOXES_INSIDE = {b"moov", b"udta"}
_COMMENT = b"\xa9cmt"

_SEGMENT, _TAGS, _TAG = 0x18538067, 0x1254C367, 0x7373
_SIMPLE_TAG, _TAG_NAME, _TAG_STRING = 0x67C8, 0x45A3, 0x4487
_ELEMENTS_INSIDE = {_SEGMENT, _TAGS, _TAG}


def read_isobmff(data: memoryview, found: Collected) -> None:
    """Read the metadata boxes of an MP4 or MOV."""
    _read_boxes(data, found, 0)


def _read_boxes(data: memoryview, found: Collected, depth: int) -> None:
    for kind, content in boxes(data, found):
        if kind in _BOXES_INSIDE and depth < MAX_DEPTH:
            _read_boxes(content, found, depth + 1)
        elif kind == b"meta":
            _read_meta(content, found)


def _read_meta(data: memoryview, found: Collected) -> None:
    # MP4 has a version before the boxes of `meta`, QuickTime has none.
    is_full_box = bytes(data[4:8]) != b"hdlr"
    parts = dict(boxes(data[4:] if is_full_box else data, found))
    keys = dict(enumerate(_keys(parts.get(b"keys", memoryview(b"")), found), 1))
    for kind, item in boxes(parts.get(b"ilst", memoryview(b"")), found):
        name = "comment" if kind == _COMMENT else keys.get(int.from_bytes(kind))
        for inner, value in boxes(item, found):
            if name and inner == b"data":
                found.add(name, bytes(value[8:]))  # behind type and locale


def _keys(data: memoryview, found: Collected) -> Iterator[str]:
    position = 8
    while position + 8 <= len(data):
        found.part()
        (size,) = struct.unpack_from(">I", data, position)
        if size < 8:
            return
        yield bytes(data[position + 8 : position + size]).decode("utf-8", "replace")
        position += size


def read_matroska(data: memoryview, found: Collected) -> None:
    """Read the tags of a WebM or MKV; clusters of pictures are passed over."""
    waiting = [data]
    while waiting:
        for kind, content in elements(waiting.pop(), found):
            if kind in _ELEMENTS_INSIDE:
                waiting.append(content)
            elif kind == _SIMPLE_TAG:
                parts = dict(elements(content, found))
                if _TAG_NAME in parts and _TAG_STRING in parts:
                    name = bytes(parts[_TAG_NAME]).decode("utf-8", "replace").rstrip("\0")
                    found.add(name, bytes(parts[_TAG_STRING]))


def read_glb(data: memoryview, found: Collected) -> None:
    """Read `asset.extras` of a GLB's JSON."""
    if len(data) < 20:
        raise DamagedError("is cut off")
    length, kind = struct.unpack_from("<I4s", data, 12)
    if kind != b"JSON":
        return
    try:
        extras = json.loads(bytes(data[20 : 20 + length]))["asset"]["extras"]
        for name in ("prompt", "workflow"):
            if name in extras:
                value = extras[name]
                found.add(name, value if isinstance(value, str) else json.dumps(value))
    except (ValueError, KeyError, TypeError, RecursionError):
        return
