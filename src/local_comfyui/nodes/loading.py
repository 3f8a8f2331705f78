"""Nodes that load images from the input folder (ComfyUI 0.3.64 ``nodes.py``)."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps, ImageSequence

from local_comfyui.nodes.core_node import Array, Comfy
from local_comfyui.nodes.pictures import to_array


def load_image(comfy: Comfy, image: str) -> tuple[Array, Array]:
    """Load a still image or all frames of an animation; the mask is the inverted alpha."""
    frames: list[Array] = []
    masks: list[Array] = []
    with Image.open(comfy.folders.annotated_path(image)) as opened:
        for part in ImageSequence.Iterator(opened):
            frame = ImageOps.exif_transpose(part)
            if frame.mode == "I":
                # 16-bit greyscale: ComfyUI scales it so, since Pillow's own conversion clips it.
                frame = frame.point(lambda value: value * (1 / 255))
            picture = to_array(frame.convert("RGB"))
            if frames and picture.shape != frames[0].shape:  # icons have several sizes
                continue
            frames.append(picture)
            masks.append(_inverted_alpha(frame))
            if opened.format == "MPO":  # a camera's: the others are of other lenses
                break
    return np.stack(frames), np.stack(masks)


def load_mask(comfy: Comfy, image: str, channel: str) -> Array:
    """Load one channel of an image as a mask; alpha is inverted."""
    with Image.open(comfy.folders.annotated_path(image)) as opened:
        picture = ImageOps.exif_transpose(opened)
    if channel == "alpha":
        return 1 - to_array(picture.convert("RGBA").getchannel("A"))[np.newaxis]
    return to_array(picture.convert("RGB").getchannel(channel[0].upper()))[np.newaxis]


def _inverted_alpha(frame: Image.Image) -> Array:
    if "A" in frame.getbands() or (frame.mode == "P" and "transparency" in frame.info):
        return 1 - to_array(frame.convert("RGBA").getchannel("A"))
    return np.zeros((64, 64), np.float32)  # ComfyUI's, whatever the picture's size
