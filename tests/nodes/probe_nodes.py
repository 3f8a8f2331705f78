"""The foreign nodes of the recorded transcripts: one sleeps, one fails, one writes other outputs.

The recordings were made with nodes of these names, inputs and outputs. Like `fault_nodes.py`, the
file runs in `local_comfyui` and in the real ComfyUI alike.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar

import comfy.model_management
import comfy.utils
import folder_paths
from PIL import Image

Inputs = dict[str, dict[str, Any]]

_KINDS = ["gifs", "text", "string", "3d", "files", "temp_gif", "nested", "missing", "traversal"]


class ProbeSleep:
    """Sleeps in steps, with progress and, on demand, previews; passes its image through."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "probe"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "image": ("IMAGE",),
                "seconds": ("FLOAT", {"default": 1.0}),
                "steps": ("INT", {"default": 4}),
                "preview": ("BOOLEAN", {"default": False}),
            }
        }

    def run(self, image: Any, seconds: float, steps: int, preview: bool) -> tuple[Any]:
        progress = comfy.utils.ProgressBar(steps)
        for step in range(1, steps + 1):
            time.sleep(seconds / steps)
            comfy.model_management.throw_exception_if_processing_interrupted()
            shown = ("JPEG", Image.new("RGB", (64, 64), (step, 0, 0)), 512) if preview else None
            progress.update_absolute(step, steps, shown)
        return (image,)


class ProbeFail:
    """Raises: an ordinary error, or torch's for a GPU without memory left."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "probe"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"image": ("IMAGE",), "how": (["error", "oom"],)}}

    def run(self, image: Any, how: str) -> None:  # noqa: ARG002 - the node's input
        if how == "error":
            raise RuntimeError("probe: the node failed on purpose")
        message = "probe: CUDA out of memory. Tried to allocate 20.00 GiB"
        try:
            import torch  # noqa: PLC0415 - only the real ComfyUI has it
        except ImportError:
            kind = type("OutOfMemoryError", (RuntimeError,), {"__module__": "torch"})
            raise kind(message) from None
        raise torch.OutOfMemoryError(message)


class ProbeOutput:
    """Writes files as popular extra nodes do, or only claims to."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ()
    FUNCTION = "run"
    CATEGORY = "probe"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"kind": (_KINDS,), "seed": ("INT", {"default": 0})}}

    def run(self, kind: str, seed: int) -> dict[str, Any]:
        return {"ui": _output(kind, seed, Path(folder_paths.get_output_directory()))}


def _output(kind: str, seed: int, folder: Path) -> dict[str, Any]:  # noqa: PLR0911 - one each
    if kind == "text":
        return {"text": ["a caption", f"seed {seed}"]}
    if kind == "string":
        return {"string": [f"seed {seed}"], "float": [0.5]}
    if kind == "gifs":
        path = _written(folder / f"probe_{seed}.mp4")
        video = {"format": "video/h264-mp4", "frame_rate": 8.0, "workflow": "probe.png"}
        return {"gifs": [{**_item(path.name), **video, "fullpath": str(path)}]}
    if kind == "temp_gif":
        path = _written(Path(folder_paths.get_temp_directory()) / f"tmp_{seed}.gif")
        return {"gifs": [_item(path.name, kind="temp")]}
    if kind == "3d":
        return {"3d": [_item(_written(folder / "mesh" / f"probe_{seed}.glb").name, "mesh")]}
    if kind == "files":
        return {"files": [_item(_written(folder / f"probe_{seed}.zip").name)]}
    if kind == "nested":
        places = ("a", "b")
        return {"files": [_item(_written(folder / at / "same.bin").name, at) for at in places]}
    if kind == "missing":
        return {"images": [_item(f"never_written_{seed}.png")]}
    outside = [_item("../../../../etc/passwd"), _item("passwd", "../../../../etc")]
    return {"images": outside}


def _written(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(path.name.encode())
    return path


def _item(filename: str, subfolder: str = "", kind: str = "output") -> dict[str, str]:
    return {"filename": filename, "subfolder": subfolder, "type": kind}


NODE_CLASS_MAPPINGS = {
    "ProbeSleep": ProbeSleep,
    "ProbeFail": ProbeFail,
    "ProbeOutput": ProbeOutput,
}
