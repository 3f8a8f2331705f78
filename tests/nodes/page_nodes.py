"""The node that the page's tests watch: it takes its time, shows what it does, and may fail.

Like `fault_nodes.py`, the file runs in `local_comfyui` and in the real ComfyUI alike.
"""

from __future__ import annotations

import time
from typing import Any

import comfy.model_management
import comfy.utils
from PIL import Image

Inputs = dict[str, dict[str, Any]]

STEP_S = 0.1
SHOWN = (256, 160)


class PagePainter:
    """Passes its image through, after some steps with previews; fails where `text` says so."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        seed = {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True}
        return {
            "required": {
                "image": ("IMAGE",),
                "text": ("STRING", {"default": "", "multiline": True}),
                "seed": ("INT", seed),
                "steps": ("INT", {"default": 1, "min": 1, "max": 1000}),
                "sampler_name": (["euler", "dpmpp_2m", "uni_pc"],),
            }
        }

    @classmethod
    def IS_CHANGED(cls, **_inputs: Any) -> float:
        return float("nan")

    def run(self, image: Any, text: str, seed: int, steps: int, sampler_name: str) -> tuple[Any]:  # noqa: ARG002 - its inputs
        progress = comfy.utils.ProgressBar(steps)
        for step in range(1, steps + 1):
            time.sleep(STEP_S)
            comfy.model_management.throw_exception_if_processing_interrupted()
            progress.update_absolute(step, steps, ("JPEG", _sky(step / steps), 512))
        if "fail" in text:
            raise RuntimeError("the paint is dry")
        return (image,)


def _sky(light: float) -> Image.Image:
    """A sky that clears up."""
    gradient = Image.linear_gradient("L").resize(SHOWN)
    bright, dark = (round(255 * light), 150, 110), (20, 24, 60)
    return Image.composite(Image.new("RGB", SHOWN, bright), Image.new("RGB", SHOWN, dark), gradient)


NODE_CLASS_MAPPINGS = {"PagePainter": PagePainter}
