"""What is wrong with a file that should hold a model's weights."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from worker_comfyui.volume.layout import WEIGHTS, endings

PARTIAL = frozenset(
    {".part", ".partial", ".incomplete", ".crdownload", ".download", ".aria2", ".tmp", ".!qb"}
)
HEAD_BYTES = 64
MAX_HEADER_BYTES = 4_000_000
"""Of a safetensors header that is read; those of real models have up to a few hundred KB."""


def problem(path: Path, kind: str) -> str | None:
    """Say why ComfyUI cannot use a file of this kind; None if nothing seems wrong."""
    try:
        return by_name(path.name, kind) or by_content(path)
    except FileNotFoundError:
        return "a link that leads nowhere"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def is_partial(name: str) -> bool:
    """Tell whether the name is that of an unfinished download."""
    return PurePosixPath(name).suffix.lower() in PARTIAL


def by_name(name: str, kind: str) -> str | None:
    """Say why ComfyUI does not list a file of this name."""
    ending = PurePosixPath(name).suffix.lower()
    if is_partial(name):
        return f"a partial download ({ending}): finish it, or download it again"
    allowed = endings(kind)
    if ending in allowed:
        return None
    if ending == ".gguf":
        return "a GGUF file, which only the loaders of a custom node such as ComfyUI-GGUF list"
    shown = ", ".join(sorted(allowed - {""})) or "files without an ending"
    return f"wrong ending {ending or '(none)'}: ComfyUI lists {shown}"


def by_content(path: Path) -> str | None:
    """Say what is wrong with a file whose name is right: it is looked at, not read as a whole.

    Raises:
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size == 0:
        return "empty: download it again"
    ending = path.suffix.lower()
    if ending not in WEIGHTS:
        return None
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if head.startswith(b"version https://git-lfs"):
            return "a git-lfs pointer, a few lines of text, instead of the weights: `git lfs pull`"
        if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
            return "a web page instead of the weights: the download needed a login or another link"
        return _safetensors(file, size) if ending in {".safetensors", ".sft"} else None


def _safetensors(file: BinaryIO, size: int) -> str | None:
    """Compare the size with what the header promises.

    Format: https://huggingface.co/docs/safetensors (8 bytes of length, JSON, tensors).
    """
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > size - 8:
        return f"not a whole safetensors file ({size} bytes): download it again"
    if length > MAX_HEADER_BYTES:
        return None
    promised = _end_of_data(file.read(length))
    if promised is None:
        return "not a safetensors file: its header cannot be read"
    missing = 8 + length + promised - size
    if missing <= 0:
        return None
    return f"cut off: {missing} bytes are missing at its end; download it again"


def _end_of_data(header: bytes) -> int | None:
    """Return how many bytes of tensors the header promises; None if it is no header."""
    try:
        entries = json.loads(header)
        return max(
            # `__metadata__` is no tensor.
            (int(entry["data_offsets"][1]) for name, entry in entries.items() if name[:2] != "__"),
            default=0,
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
