"""Nodes that save images, with the prompt and the workflow inside the files."""

from __future__ import annotations

from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from local_comfyui.nodes.core_node import Array, Comfy, Ui
from local_comfyui.nodes.pictures import size_of, to_pictures
from local_comfyui.prompt import Json

_WEBP_METHODS = {"default": 4, "fastest": 0, "slowest": 6}
# EXIF fields that ComfyUI puts metadata into: the prompt into Model, the rest into Make and the
# numbers below it.
_EXIF_MODEL = 0x0110
_EXIF_MAKE = 0x010F


def save_pngs(
    comfy: Comfy,
    images: Array,
    filename_prefix: str = "ComfyUI",
    *,
    folder: str = "output",
    compress_level: int = 4,
) -> Ui:
    """Save each image as PNG."""
    path = comfy.save_path(folder, filename_prefix, size_of(images))
    chunks = PngInfo()
    for name, text in comfy.metadata.items():
        chunks.add_text(name, text)
    files = [path.file(index, "png") for index in range(len(images))]
    for file, picture in zip(files, to_pictures(images), strict=True):
        picture.save(file, pnginfo=chunks, compress_level=compress_level)
    return {"ui": {"images": list(map(path.item, files))}}


def send_pngs(comfy: Comfy, images: Array) -> Ui:
    """Send each image as PNG through the websocket, as a preview; nothing is saved."""
    for step, picture in enumerate(to_pictures(images)):
        comfy.report(step, len(images), ("PNG", picture, None))
    return {}


def save_animated_png(
    comfy: Comfy, images: Array, fps: float, compress_level: int, filename_prefix: str = "ComfyUI"
) -> Ui:
    """Save the batch as one animated PNG in the output folder."""
    chunks = PngInfo()
    for name, text in comfy.metadata.items():
        # ComfyUI writes the texts of an animation as a private chunk, after the image data.
        chunks.add(b"comf", f"{name}\0{text}".encode("latin-1"), after_idat=True)
    options: Json = {"pnginfo": chunks, "compress_level": compress_level}
    return _save_animation(comfy, images, fps, filename_prefix, "png", options)


def save_animated_webp(
    comfy: Comfy, images: Array, fps: float, filename_prefix: str, method: str, **options: Any
) -> Ui:
    """Save the batch as one animated WebP in the output folder; the others are Pillow's options."""
    exif, others = Image.Exif(), dict(comfy.metadata)
    if "prompt" in others:
        exif[_EXIF_MODEL] = f"prompt:{others.pop('prompt')}"
    for offset, (name, text) in enumerate(others.items()):
        exif[_EXIF_MAKE - offset] = f"{name}:{text}"
    options |= {"exif": exif, "method": _WEBP_METHODS[method]}
    answer = _save_animation(comfy, images, fps, filename_prefix, "webp", options)
    answer["ui"]["animated"] = [len(images) > 1]  # a PNG is called animated in any case
    return answer


def _save_animation(
    comfy: Comfy, images: Array, fps: float, prefix: str, suffix: str, options: Json
) -> Ui:
    path = comfy.save_path("output", prefix, size_of(images))
    file = path.file(0, suffix)
    first, *others = to_pictures(images)
    options |= {"save_all": True, "append_images": others, "duration": int(1000 / fps)}
    first.save(file, **options)
    return {"ui": {"images": [path.item(file)], "animated": [True]}}
