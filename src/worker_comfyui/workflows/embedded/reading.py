"""A file → the workflow that ComfyUI embedded in it.

A reader for each container walks its structure and takes out the texts; pictures and sound are
neither decoded nor copied.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker_comfyui.errors import InvalidRequest
from worker_comfyui.media.containers import DamagedError
from worker_comfyui.workflows.embedded import audio, images, media
from worker_comfyui.workflows.embedded.texts import Collected, Texts

Reader = Callable[[memoryview, Collected], None]

_BY_START: tuple[tuple[bytes, str, Reader], ...] = (
    (images.PNG, "PNG", images.read_png),
    (b"\xff\xd8\xff", "JPEG", images.read_jpeg),
    (images.EXR, "EXR", images.read_exr),
    (media.EBML, "WebM", media.read_matroska),
    (media.GLB, "GLB", media.read_glb),
    (audio.FLAC, "FLAC", audio.read_flac),
    (audio.OGG, "Ogg", audio.read_ogg),
    (audio.ID3, "MP3", audio.read_id3),
)
READABLE = "PNG, WebP, JPEG, EXR, SVG, MP4, MOV, WebM, MKV, GLB, FLAC, Ogg/Opus, MP3"


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a file has.

    Attributes:
        kind: The container: `PNG`, `MP4`, ...
        prompt: The API format that ran, if it is there.
        workflow: The editor's file, if it is there.
    """

    kind: str
    prompt: dict[str, Any] | None
    workflow: dict[str, Any] | None


def container(data: bytes | memoryview) -> tuple[str, Reader] | None:
    """Tell which container a file is; None: none in which ComfyUI embeds workflows."""
    head = bytes(data[:512])
    for start, kind, reader in _BY_START:
        if head.startswith(start):
            return kind, reader
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP", images.read_webp
    if head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free"}:
        return "MP4", media.read_isobmff
    text = head.lstrip()
    if text.startswith((b"<svg", b"<?xml")) and b"<svg" in text:
        return "SVG", images.read_svg
    return None


def read(data: bytes, path: str = "workflow") -> Embedded:
    """Read the workflow that is embedded in a file.

    Raises:
        InvalidRequest: it is no such file, is damaged, or has no workflow.
    """
    known = container(data)
    if known is None:
        raise InvalidRequest.at(
            path, f"is a file in which ComfyUI embeds no workflow; it does in {READABLE}"
        )
    kind, reader = known
    found = Collected()
    try:
        reader(memoryview(data), found)
    except (DamagedError, struct.error) as error:
        why = str(error) if isinstance(error, DamagedError) else "is cut off or damaged"
        # A file that is cut off behind its workflow is good enough.
        if not _has_any(found.texts):
            raise InvalidRequest.at(path, f"is a {kind} file that {why}") from None
    embedded = Embedded(kind, *_both(found.texts))
    if embedded.prompt is None and embedded.workflow is None:
        raise InvalidRequest.at(
            path,
            f"is a {kind} file without a workflow: it was not saved by ComfyUI, or something that "
            "it went through (a messenger, an image editor) took it out",
        )
    return embedded


def _has_any(texts: Texts) -> bool:
    return any(_both(texts))


def _both(texts: Texts) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    prompt, workflow = _object(texts.get("prompt")), _object(texts.get("workflow"))
    comment = _object(texts.get("comment"))
    if comment is not None:  # VideoHelperSuite, and ComfyUI's SVG
        prompt = prompt or _object(comment.get("prompt"))
        workflow = workflow or _object(comment.get("workflow"))
    return prompt, workflow


def _object(text: Any) -> dict[str, Any] | None:
    if isinstance(text, dict):
        return text or None
    if not isinstance(text, str):
        return None
    try:
        # Old versions of ComfyUI wrote `"is_changed": NaN` into nodes.
        value = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value else None
