"""Whether bytes are a model file, as far as its head tells.

Formats: https://huggingface.co/docs/safetensors (8 bytes of length, JSON, tensors) and
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (magic, version, counts).
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from worker_comfyui.models.transfer.errors import Damaged

SAFETENSORS = frozenset({".safetensors", ".sft"})
GGUF = frozenset({".gguf"})
SAFE = SAFETENSORS | GGUF
"""Endings of formats that hold numbers alone; pickles can run code when they are loaded."""
MODELS = SAFE | {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".pkl", ".onnx"}
"""Endings of models; what else lies in a repository may look like anything."""
MAX_HEADER_BYTES = 32 << 20
"""Real ones have up to a few MB."""
HEAD_BYTES = 64
# 3 is the newest, and of the other byte order a huge one; models have some thousand tensors.
GGUF_VERSIONS = range(1, 1000)
GGUF_MAX_COUNT = 1 << 24


def check(path: Path, name: str, *, safe_only: bool) -> None:
    """Check a file that is there as a whole.

    Args:
        path: Where it lies.
        name: What it will be called: its ending says what it must be.
        safe_only: Whether it must be in a format of `SAFE`.

    Raises:
        Damaged: it is no model file.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        check_head(file.read(HEAD_BYTES), size, name, safe_only=safe_only)
        if PurePosixPath(name).suffix.lower() in SAFETENSORS:
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            _check_header(file.read(length), size, name)


def check_head(head: bytes, size: int | None, name: str, *, safe_only: bool) -> None:
    """Check the first bytes of a file, before all of it is fetched.

    Raises:
        Damaged: it is no model file.
    """
    ending = PurePosixPath(name).suffix.lower()
    if (safe_only or ending in MODELS) and (problem := _stranger(head)):
        raise Damaged(f"{name} is {problem}")
    if ending in SAFETENSORS:
        _check_length(head, size, name)
    elif ending in GGUF:
        _check_gguf(head, name)
    elif safe_only:
        raise Damaged(f"{name} is neither a safetensors nor a GGUF file")


def _stranger(head: bytes) -> str | None:
    """Say what else the bytes are: what servers send in place of a file."""
    start = head.lstrip().lower()
    if not head:
        return "empty: the link leads to no file"
    if start.startswith(b"<"):
        return (
            "a web page or an XML error instead of a model: the link needs a login or another one"
        )
    if start.startswith(b"version https://git-lfs"):
        return (
            "a git-lfs pointer, a few lines of text: take the link with /resolve/ instead of /raw/"
        )
    if start.startswith((b'{"error', b'{"message', b'{"detail')):
        return "an error message instead of a model: open the link to see what it asks for"
    return None


def _check_length(head: bytes, size: int | None, name: str) -> None:
    length = int.from_bytes(head[:8], "little")
    if len(head) < 10 or head[8:9] != b"{" or not 2 <= length <= MAX_HEADER_BYTES:
        raise Damaged(f"{name} is not a safetensors file: it does not begin as one")
    if size is not None and length + 8 > size:
        raise Damaged(f"{name} is cut off: its {size} bytes are not even its header")


def _check_header(header: bytes, size: int, name: str) -> None:
    try:
        entries = json.loads(header)
        ends = [int(v["data_offsets"][1]) for k, v in entries.items() if k != "__metadata__"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise Damaged(f"{name} is not a safetensors file: its header cannot be read") from None
    promised = 8 + len(header) + max(ends, default=0)
    if promised != size:
        fault = "cut off" if size < promised else "followed by something else"
        raise Damaged(f"{name} is {fault}: it has {size} bytes, and its header says {promised}")


def _check_gguf(head: bytes, name: str) -> None:
    version = int.from_bytes(head[4:8], "little")
    tensors = int.from_bytes(head[8:16], "little")
    if head[:4] != b"GGUF" or version not in GGUF_VERSIONS or tensors > GGUF_MAX_COUNT:
        raise Damaged(f"{name} is not a GGUF file: it does not begin as one")
