"""Batches of images and masks as arrays: from and to Pillow's pictures, and to other sizes.

Sizes follow ComfyUI's methods (0.3.64 ``common_upscale``). ``lanczos`` is Pillow's, and
the others are torch's, which differ from Pillow's filters of these names: bilinear and bicubic look
at the nearest pixels even when they shrink, and area takes the mean of all that a pixel touches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from local_comfyui.nodes.core_node import Array

Size = tuple[int, int]
"""Width and height."""

_CUBIC = -0.75  # torch's coefficient


def to_array(picture: Image.Image) -> Array:
    """A picture as (height, width, channels), or (height, width) for one channel."""
    return np.asarray(picture, np.float32) / np.float32(255)


def to_bytes(image: Array) -> npt.NDArray[np.uint8]:
    """8 bits per channel: cut off, not rounded, as ComfyUI does when it saves."""
    return np.clip(255 * image, 0, 255).astype(np.uint8)


def to_pictures(images: Array) -> list[Image.Image]:
    """A picture for each frame of a batch."""
    return [Image.fromarray(to_bytes(frame)) for frame in images]


def size_of(image: Array) -> Size:
    """Width and height of a batch."""
    return image.shape[2], image.shape[1]


def resize(image: Array, size: Size, method: str, *, center: bool = False) -> Array:
    """Resize a batch by one of ComfyUI's methods.

    With ``center``, what does not have the aspect ratio of the size is cut away before.
    """
    if center:
        image = _cut_to_aspect(image, size)
    if size_of(image) == size:
        return image
    if method == "lanczos":
        pictures = to_pictures(image)
        return np.stack(
            [to_array(each.resize(size, Image.Resampling.LANCZOS)) for each in pictures]
        )
    columns, rows = (_METHODS[method](*ends) for ends in zip(size_of(image), size, strict=True))
    resized: Array = np.einsum("yh,bhw...,xw->byx...", rows, image, columns, optimize=True)
    return resized


def _cut_to_aspect(image: Array, size: Size) -> Array:
    width, height = size_of(image)
    old_aspect, new_aspect = width / height, size[0] / size[1]
    left = top = 0
    if old_aspect > new_aspect:
        left = round((width - width * (new_aspect / old_aspect)) / 2)
    elif old_aspect < new_aspect:
        top = round((height - height * (old_aspect / new_aspect)) / 2)
    return image[:, top : height - top, left : width - left]


def _weighted(old: int, new: int, taps: range, kernel: Callable[[Any], Any]) -> Array:
    """What each of ``new`` output pixels is made of: its shares of ``old`` input pixels."""
    place = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(place).astype(int)
    weights = np.zeros((new, old), np.float32)
    for step in taps:
        index = np.clip(first + step, 0, old - 1)
        np.add.at(weights, (np.arange(new), index), kernel(np.abs(place - first - step)))
    return weights


def _linear(old: int, new: int) -> Array:
    return _weighted(old, new, range(2), lambda distance: 1 - distance)


def _keys(distance: Any) -> Any:
    """Keys' convolution kernel."""
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * _CUBIC - 4 * _CUBIC
    return np.where(distance <= 1, near, far)


def _cubic(old: int, new: int) -> Array:
    return _weighted(old, new, range(-1, 3), _keys)


def _area(old: int, new: int) -> Array:
    weights = np.zeros((new, old), np.float32)
    for index in range(new):
        start, end = index * old // new, -(-(index + 1) * old // new)
        weights[index, start:end] = 1 / (end - start)
    return weights


def _nearest(old: int, new: int) -> Array:
    weights = np.zeros((new, old), np.float32)
    weights[range(new), [(2 * index + 1) * old // (2 * new) for index in range(new)]] = 1
    return weights


_METHODS = {"nearest-exact": _nearest, "bilinear": _linear, "bicubic": _cubic, "area": _area}
