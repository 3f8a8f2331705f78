"""An extra node for tests: one that saves files of any size, which do not compress.

The file follows ComfyUI's conventions and runs in `local_comfyui` and in the real ComfyUI alike.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import folder_paths


class TestBigFile:
    """Writes ``count`` files of ``size`` random bytes each into the output folder."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ()
    FUNCTION = "run"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:
        return {
            "required": {
                "size": ("INT", {"default": 1000, "min": 0, "max": 1_000_000_000}),
                "count": ("INT", {"default": 1, "min": 1, "max": 1000}),
                "filename_prefix": ("STRING", {"default": "big"}),
            }
        }

    @classmethod
    def IS_CHANGED(cls, **_inputs: Any) -> float:
        return float("nan")

    def run(self, size: int, count: int, filename_prefix: str) -> dict[str, Any]:
        folder, _, name = filename_prefix.rpartition("/")
        items = []
        for number in range(count):
            path = Path(folder_paths.get_output_directory(), folder, f"{name}_{number}.bin")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for begin in range(0, size, 1 << 20):
                    file.write(os.urandom(min(1 << 20, size - begin)))
            items.append({"filename": path.name, "subfolder": folder, "type": "output"})
        return {"ui": {"files": items}}


NODE_CLASS_MAPPINGS = {"TestBigFile": TestBigFile}
