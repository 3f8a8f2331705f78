"""Nodes that load images from the input folder (ComfyUI 0.3.64 ``nodes.py``)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from PIL import Image, ImageFile, ImageOps, ImageSequence

from local_comfyui.folders import OutsideFolderError
from local_comfyui.media import Images, Masks
from local_comfyui.nodes.core_node import CoreNodes, NodeContext

NODES = CoreNodes()

_EMPTY_MASK_SIZE = (64, 64)


def _input_files(context: NodeContext) -> list[str]:
    return context.folders.input_files()


def _file_hash(context: NodeContext, image: str, **_others: object) -> str:
    with context.folders.annotated_path(image).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file_exists(context: NodeContext, image: str) -> bool | str:
    try:
        exists = context.folders.annotated_path(image).exists()
    except OutsideFolderError:
        exists = False
    return True if exists else f"Invalid image file: {image}"


@NODES.node(
    "LoadImage", options={"image": _input_files}, is_changed=_file_hash, validate=_file_exists
)
def load_image(context: NodeContext, image: str) -> tuple[Images, Masks]:
    """Load a still image or all frames of an animation; the mask is the inverted alpha."""
    frames: list[Image.Image] = []
    masks: list[Image.Image] = []
    with Image.open(context.folders.annotated_path(image)) as opened:
        for frame in _frames(opened):
            picture = frame.convert("RGB")
            if frames and picture.size != frames[0].size:
                continue
            frames.append(picture)
            masks.append(_inverted_alpha(frame))
            if opened.format == "MPO":
                break
    return Images(tuple(frames)), Masks(tuple(masks))


@NODES.node(
    "LoadImageMask", options={"image": _input_files}, is_changed=_file_hash, validate=_file_exists
)
def load_image_mask(context: NodeContext, image: str, channel: str) -> Masks:
    """Load one channel of an image as a mask; alpha is inverted."""
    with Image.open(context.folders.annotated_path(image)) as opened:
        picture = ImageOps.exif_transpose(opened)
    if channel == "alpha":
        return Masks((ImageOps.invert(picture.convert("RGBA").getchannel("A")),))
    return Masks((picture.convert("RGB").getchannel(channel[0].upper()),))


@NODES.node("LoadImageOutput", is_changed=_file_hash, validate=_file_exists)
def load_image_output(context: NodeContext, image: str) -> tuple[Images, Masks]:
    """Load an image that an earlier prompt saved; its name ends in ``[output]``."""
    return load_image(context, image)  # type: ignore[no-any-return] # the decorator keeps the type


def _frames(opened: Image.Image) -> Iterator[Image.Image]:
    for frame in ImageSequence.Iterator(opened):
        upright = _decoded(frame)
        # 16-bit greyscale: ComfyUI scales it so, since Pillow's own conversion clips it.
        yield upright.point(lambda value: value * (1 / 255)) if upright.mode == "I" else upright


def _inverted_alpha(frame: Image.Image) -> Image.Image:
    if "A" in frame.getbands():
        return ImageOps.invert(frame.getchannel("A"))
    if frame.mode == "P" and "transparency" in frame.info:
        return ImageOps.invert(frame.convert("RGBA").getchannel("A"))
    return Image.new("L", _EMPTY_MASK_SIZE, 0)


def _decoded(part: Image.Image) -> Image.Image:
    """Decode an image upright; one that is cut off as far as it goes (``node_helpers.pillow``)."""
    try:
        return ImageOps.exif_transpose(part)
    except OSError:
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            return ImageOps.exif_transpose(part)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
