"""Nodes that save images, with the prompt and the workflow inside the files."""

from __future__ import annotations

from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from local_comfyui.folders import SavePath
from local_comfyui.media import Images, Masks
from local_comfyui.nodes.core_node import CoreNodes, NodeContext
from local_comfyui.nodes.masks import to_image
from local_comfyui.prompt import Json

NODES = CoreNodes()

_SAVED_COMPRESSION = 4
_PREVIEW_COMPRESSION = 1
_WEBP_METHODS = {"default": 4, "fastest": 0, "slowest": 6}
# EXIF fields that ComfyUI puts metadata into: the prompt into Model, the rest into Make and the
# numbers below it.
_EXIF_MODEL = 0x0110
_EXIF_MAKE = 0x010F


@NODES.node("SaveImage")
def save_image(
    context: NodeContext,
    images: Images,
    filename_prefix: str = "ComfyUI",
    prompt: Json | None = None,
    extra_pnginfo: Json | None = None,
) -> Json:
    """Save each image as PNG in the output folder."""
    path = context.save_path("output", filename_prefix, images.size)
    return _save_pngs(path, images, _SAVED_COMPRESSION, context.metadata(prompt, extra_pnginfo))


@NODES.node("PreviewImage")
def preview_image(
    context: NodeContext,
    images: Images,
    prompt: Json | None = None,
    extra_pnginfo: Json | None = None,
) -> Json:
    """Save each image as PNG in the temp folder."""
    path = context.save_path("temp", "ComfyUI", images.size)
    return _save_pngs(path, images, _PREVIEW_COMPRESSION, context.metadata(prompt, extra_pnginfo))


@NODES.node("MaskPreview")
def preview_mask(
    context: NodeContext,
    mask: Masks,
    prompt: Json | None = None,
    extra_pnginfo: Json | None = None,
) -> Any:
    """Save each mask as a grey PNG in the temp folder."""
    return preview_image(context, to_image(context, mask), prompt, extra_pnginfo)


def _save_pngs(path: SavePath, images: Images, compression: int, metadata: dict[str, str]) -> Json:
    files = []
    for index, frame in enumerate(images):
        file = path.file(index, "png")
        frame.save(file, pnginfo=_text_chunks(metadata), compress_level=compression)
        files.append(path.item(file))
    return {"ui": {"images": files}}


def _text_chunks(metadata: dict[str, str]) -> PngInfo | None:
    if not metadata:
        return None
    chunks = PngInfo()
    for name, text in metadata.items():
        chunks.add_text(name, text)
    return chunks


@NODES.node("SaveAnimatedPNG")
def save_animated_png(
    context: NodeContext,
    images: Images,
    fps: float,
    compress_level: int,
    filename_prefix: str = "ComfyUI",
    prompt: Json | None = None,
    extra_pnginfo: Json | None = None,
) -> Json:
    """Save the batch as one animated PNG in the output folder."""
    path = context.save_path("output", filename_prefix, images.size)
    file = path.file(0, "png")
    chunks = PngInfo()
    for name, text in context.metadata(prompt, extra_pnginfo).items():
        # ComfyUI writes the texts of an animation as a private chunk, after the image data.
        content = name.encode("latin-1", "strict") + b"\0" + text.encode("latin-1", "strict")
        chunks.add(b"comf", content, after_idat=True)
    images.frames[0].save(
        file,
        pnginfo=chunks,
        compress_level=compress_level,
        save_all=True,
        duration=int(1000.0 / fps),
        append_images=images.frames[1:],
    )
    return {"ui": {"images": [path.item(file)], "animated": [True]}}


@NODES.node("SaveAnimatedWEBP")
def save_animated_webp(
    context: NodeContext,
    images: Images,
    fps: float,
    filename_prefix: str,
    lossless: bool,
    quality: int,
    method: str,
    prompt: Json | None = None,
    extra_pnginfo: Json | None = None,
) -> Json:
    """Save the batch as one animated WebP in the output folder."""
    path = context.save_path("output", filename_prefix, images.size)
    file = path.file(0, "webp")
    images.frames[0].save(
        file,
        save_all=True,
        duration=int(1000.0 / fps),
        append_images=images.frames[1:],
        exif=_exif(context.metadata(prompt, extra_pnginfo)),
        lossless=lossless,
        quality=quality,
        method=_WEBP_METHODS[method],
    )
    return {"ui": {"images": [path.item(file)], "animated": [len(images) != 1]}}


def _exif(metadata: dict[str, str]) -> Image.Exif:
    exif = Image.Exif()
    others = [name for name in metadata if name != "prompt"]
    if "prompt" in metadata:
        exif[_EXIF_MODEL] = f"prompt:{metadata['prompt']}"
    for offset, name in enumerate(others):
        exif[_EXIF_MAKE - offset] = f"{name}:{metadata[name]}"
    return exif
