"""Small prompts whose pixels were recorded from the real ComfyUI.

``python -m tests.local_comfyui.pixel_cases`` records them again, with ``TEST_COMFYUI_PATH`` and
``TEST_COMFYUI_PYTHON`` naming the real one.
"""

from __future__ import annotations

import base64
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from tests.local_comfyui.workflows import Prompt, node, save
from tests.support.comfyui import REAL_COMFYUI, ROOT, ComfyUI, running_comfyui

RECORDED = ROOT / "test_resources" / "comfyui" / "pixels.json"

Case = tuple[str, dict[str, Any]]
"""A node's class and its inputs; values that begin with ``@`` stand for links."""

LINKS = {
    "@first": ["first", 0],
    "@alpha": ["first", 1],
    "@second": ["second", 0],
    "@mask": ["mask", 0],
}
MASK_OUTPUTS = ("LoadImageMask", "GrowMask")


def _scale(method: str, width: int, height: int, crop: str) -> Case:
    size = {"width": width, "height": height}
    return "ImageScale", {"image": "@first", "upscale_method": method, **size, "crop": crop}


def _blend(mode: str) -> Case:
    images = {"image1": "@first", "image2": "@second"}
    return "ImageBlend", {**images, "blend_factor": 0.6, "blend_mode": mode}


def _composite(**inputs: Any) -> Case:
    both = {"destination": "@first", "source": "@second", "x": 5, "y": 3}
    return "ImageCompositeMasked", {**both, **inputs}


def _grow(expand: int, corners: bool) -> Case:
    return "GrowMask", {"mask": "@alpha", "expand": expand, "tapered_corners": corners}


_METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")
_MODES = ("normal", "multiply", "screen", "overlay", "soft_light", "difference")

CASES: dict[str, Case] = {
    "load": _scale("bilinear", 24, 18, "disabled"),
    "invert": ("ImageInvert", {"image": "@first"}),
    "scale by": (
        "ImageScaleBy",
        {"image": "@first", "upscale_method": "bilinear", "scale_by": 1.7},
    ),
    "scale keeping aspect": _scale("bilinear", 0, 9, "disabled"),
    "crop": ("ImageCrop", {"image": "@first", "width": 7, "height": 50, "x": 3, "y": 4}),
    "batch": ("ImageBatch", {"image1": "@first", "image2": "@second"}),
    "repeat": ("RepeatImageBatch", {"image": "@first", "amount": 2}),
    "blur": ("ImageBlur", {"image": "@first", "blur_radius": 3, "sigma": 0.7}),
    "composite": _composite(resize_source=False),
    "composite masked": _composite(resize_source=True, mask="@mask"),
    "mask alpha": ("LoadImageMask", {"image": "first.png", "channel": "alpha"}),
    "mask red": ("LoadImageMask", {"image": "first.png", "channel": "red"}),
    "mask without alpha": ("LoadImageMask", {"image": "second.png", "channel": "alpha"}),
    **{f"enlarge {method}": _scale(method, 40, 30, "center") for method in _METHODS},
    **{f"shrink {method}": _scale(method, 12, 9, "disabled") for method in _METHODS},
    **{f"blend {mode}": _blend(mode) for mode in _MODES},
    **{f"grow {n} {corners}": _grow(n, corners) for n, corners in ((2, True), (2, False))},
    "grow -2 True": _grow(-2, True),
}


def prompt(name: str) -> Prompt:
    """The prompt of a case: the node, what it needs, and saving its first output."""
    class_type, inputs = CASES[name]
    nodes = {
        "first": node("LoadImage", image="first.png"),
        "second": node("LoadImage", image="second.png"),
        "mask": node("LoadImageMask", image="second.png", channel="green"),
        "node": node(class_type, **{k: LINKS.get(str(v), v) for k, v in inputs.items()}),
        "save": save("node", name.replace(" ", "_")),
    }
    if class_type in MASK_OUTPUTS:
        nodes["image"] = node("MaskToImage", mask=["node", 0])
        nodes["save"] = save("image", name.replace(" ", "_"))
    return nodes


def prepare(base: Path) -> None:
    """Put the two pictures into the input folder."""
    folder = base / "input"
    first = Image.new("RGBA", (24, 18))
    first.putdata([_rgba(index) for index in range(24 * 18)])
    first.save(folder / "first.png")
    second = Image.new("RGB", (15, 20))
    second.putdata([_rgba(7 * index)[:3] if index % 5 else (0, 0, 0) for index in range(15 * 20)])
    second.save(folder / "second.png")


def _rgba(index: int) -> tuple[int, int, int, int]:
    """A pattern with smooth and rough parts."""
    return (index * 3 % 256, index * index % 251, (index // 24) * 14, 255 - (index * 11) % 256)


def pictures(server: ComfyUI, name: str) -> list[Image.Image]:
    """What a server saves for a case."""
    entry = server.run(prompt(name))
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
    files = entry["outputs"]["save"]["images"]
    return [Image.open(io.BytesIO(server.get("/view", params=file).content)) for file in files]


def recorded(name: str) -> list[Image.Image]:
    """What the real ComfyUI saved for a case."""
    return [
        Image.frombytes(entry["mode"], tuple(entry["size"]), base64.b64decode(entry["pixels"]))
        for entry in json.loads(RECORDED.read_text())[name]
    ]


def _record() -> None:
    assert REAL_COMFYUI, "set TEST_COMFYUI_PATH and TEST_COMFYUI_PYTHON"
    results = {}
    with tempfile.TemporaryDirectory() as folder, running_comfyui(Path(folder), []) as server:
        prepare(server.base)
        for name in CASES:
            results[name] = [
                {
                    "mode": each.mode,
                    "size": each.size,
                    "pixels": base64.b64encode(each.tobytes()).decode(),
                }
                for each in pictures(server, name)
            ]
    lines = (f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in results.items())
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    _record()
