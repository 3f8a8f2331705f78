"""A file as it stands in a result, and how many bytes it takes there."""

from __future__ import annotations

import binascii
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from worker_comfyui.media.media_types import UNKNOWN
from worker_comfyui.media.output_file import OutputFile

URL_BYTES = 2048
"""Room for a presigned URL in the result."""

_CHUNK_BYTES = 3 * (1 << 18)  # a multiple of 3: base64 of the pieces is base64 of the whole


def item(file: OutputFile, data: str) -> dict[str, Any]:
    """Shape a file for the result: `data` is its base64 or its URL."""
    shaped: dict[str, Any] = {
        "filename": file.filename,
        "type": _type(file),
        "data": data,
        "media_type": file.media_type or UNKNOWN,
        "bytes": file.bytes,
    }
    if file.sha256 is not None:
        shaped["sha256"] = file.sha256
    if file.node_id is not None:
        shaped["node_id"] = file.node_id
    if file.subfolder:
        shaped["subfolder"] = file.subfolder
    if file.info:
        shaped |= {"width": file.info.width, "height": file.info.height}
        if file.info.animated:
            shaped["animated"] = True
    if file.playing:
        facts = asdict(file.playing)
        shaped |= {name: value for name, value in facts.items() if value is not None}
    return shaped


def _type(file: OutputFile) -> str:
    if file.url is None:
        return "base64"
    return "uploaded" if file.uploaded else "s3_url"


def reference(item: dict[str, Any], group: str, index: int) -> dict[str, Any]:
    """Shape a file for a second list: where its data stands, which is not sent twice."""
    if item["type"] != "base64":
        return dict(item)
    rest = {name: value for name, value in item.items() if name != "data"}
    return {**rest, "type": "same_as", "same_as": f"{group}[{index}]"}


def inline_bytes(file: OutputFile) -> int:
    """Count what a file takes in the result as base64, with all that stands around it."""
    return 4 * ((file.bytes + 2) // 3) + _frame_bytes(file)


def linked_bytes(file: OutputFile) -> int:
    """Count what a file takes in the result as a URL."""
    return URL_BYTES + _frame_bytes(file)


def size(files: Iterable[OutputFile]) -> int:
    """Count what files take in the result: those with a URL as such, the others inline."""
    return sum(inline_bytes(file) if file.url is None else linked_bytes(file) for file in files)


def base64(path: Path) -> str:
    """Encode a file, in pieces: its bytes and their text are not held side by side."""
    pieces = []
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK_BYTES):
            pieces.append(binascii.b2a_base64(piece, newline=False).decode("ascii"))
    return "".join(pieces)


def megabytes(count: int) -> str:
    """Write a number of bytes for people."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1000:.1f} kB"


def _frame_bytes(file: OutputFile) -> int:
    bytes_ = len(json.dumps(item(file, ""))) + 2
    # A video may stand in two lists: in one of them with `same_as` for its data.
    return bytes_ * 2 + 40 if file.is_listed_as_image else bytes_
