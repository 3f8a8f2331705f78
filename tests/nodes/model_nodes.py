"""Loaders of a made-up node pack: of a kind that ComfyUI has, and of one that only the pack knows.

They run nothing: `Named` reports the name that it was given, and how large that file is.
"""

from __future__ import annotations

import mmap
import time
from pathlib import Path
from typing import Any

import folder_paths

OWN_KIND = "made_up_kind"
TENSOR_BYTES = 32 << 20


def _files(kind: str) -> list[str]:
    found: list[str] = []
    for folder in map(Path, folder_paths.get_folder_paths(kind)):
        if folder.is_dir():
            paths = (path for path in folder.rglob("*") if path.is_file())
            found += [str(path.relative_to(folder)) for path in paths]
    return sorted(found)


class PackLoraLoader:
    """Takes a LoRA in an input that no table knows, or none."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"weights": (["None", *_files("loras")],)}}

    def run(self, weights: str) -> dict[str, Any]:
        return {"ui": {"text": [weights]}}


class OwnKindLoader:
    """Takes a model of the pack's own kind, which lies in ComfyUI's own models folder alone."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        folder = Path(folder_paths.models_dir) / OWN_KIND
        names = sorted(p.name for p in folder.glob("*")) if folder.is_dir() else []
        return {"required": {"model": (names,)}}

    def run(self, model: str) -> dict[str, Any]:
        return {"ui": {"text": [model]}}


class TestReadModel:
    """Reads a whole checkpoint as ComfyUI does: from a map of the file, one tensor after another.

    https://github.com/huggingface/safetensors: its `get_tensor` copies from such a map.
    """

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"weights": (_files("checkpoints"),)}}

    def run(self, weights: str) -> dict[str, Any]:
        folders = map(Path, folder_paths.get_folder_paths("checkpoints"))
        path = next(folder / weights for folder in folders if (folder / weights).exists())
        began = time.monotonic()
        tensor = bytearray(TENSOR_BYTES)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            for start in range(0, len(whole), TENSOR_BYTES):
                part = memoryview(whole)[start : start + TENSOR_BYTES]
                tensor[: len(part)] = part
                part.release()
        return {"ui": {"text": [f"{time.monotonic() - began:.3f}"]}}


NODE_CLASS_MAPPINGS = {
    "PackLoraLoader": PackLoraLoader,
    "OwnKindLoader": OwnKindLoader,
    "TestReadModel": TestReadModel,
}
