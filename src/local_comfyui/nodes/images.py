"""Nodes that make images and masks, and change them (ComfyUI 0.3.64 ``nodes.py`` and others)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from local_comfyui.nodes.core_node import Array
from local_comfyui.nodes.pictures import resize, size_of

_CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))
_CROSS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))


def empty(width: int, height: int, batch_size: int, color: int) -> Array:
    """Images of one colour, given as 0xRRGGBB."""
    rgb = [(color >> shift & 0xFF) / 0xFF for shift in (16, 8, 0)]
    return np.broadcast_to(np.array(rgb, np.float32), (batch_size, height, width, 3))


def invert(image: Array) -> Array:
    """One minus the image."""
    return 1 - image


def crop(image: Array, width: int, height: int, x: int, y: int) -> Array:
    """Cut out a rectangle; what lies outside the image is left out."""
    columns, rows = size_of(image)
    left, top = min(x, columns - 1), min(y, rows - 1)
    return image[:, top : top + height, left : left + width]


def scale(image: Array, upscale_method: str, width: int, height: int, crop: str) -> Array:
    """Scale to a size; a side of 0 follows from the other one."""
    if width == 0 and height == 0:
        return image
    old_width, old_height = size_of(image)
    width = width or max(1, round(old_width * height / old_height))
    height = height or max(1, round(old_height * width / old_width))
    return resize(image, (width, height), upscale_method, center=crop == "center")


def scale_by(image: Array, upscale_method: str, scale_by: float) -> Array:
    """Scale by a factor."""
    width, height = size_of(image)
    return resize(image, (round(width * scale_by), round(height * scale_by)), upscale_method)


def batch_two(image1: Array, image2: Array) -> Array:
    """Both batches one after the other, the second scaled to the size of the first."""
    second = resize(image2, size_of(image1), "bilinear", center=True)
    return np.concatenate((image1, second))


def repeat(image: Array, amount: int) -> Array:
    """The whole batch several times."""
    return np.tile(image, (amount, 1, 1, 1))


def blur(image: Array, blur_radius: int, sigma: float) -> Array:
    """Blur with a Gaussian kernel whose edge is 1, so sigma is relative to the radius."""
    if blur_radius == 0:
        return image
    steps = np.linspace(-1, 1, 2 * blur_radius + 1, dtype=np.float32)
    weights = np.exp(-(steps**2) / (2 * sigma * sigma))
    edge = (blur_radius, blur_radius)
    padded = np.pad(image, ((0, 0), edge, edge, (0, 0)), "reflect")
    for axis in (1, 2):
        length = image.shape[axis]
        parts = (padded.take(range(at, at + length), axis) for at in range(len(weights)))
        padded = np.sum([weight * part for weight, part in zip(weights, parts, strict=True)], 0)
    blurred: Array = padded / weights.sum() ** 2
    return blurred


def _soft_light(below: Array, above: Array) -> Array:
    root = np.where(below <= 0.25, ((16 * below - 12) * below + 4) * below, np.sqrt(below))
    darker = below - (1 - 2 * above) * below * (1 - below)
    return np.where(above <= 0.5, darker, below + (2 * above - 1) * (root - below))


_BLEND_MODES: dict[str, Callable[[Array, Array], Array]] = {
    "normal": lambda _below, above: above,
    "multiply": lambda below, above: below * above,
    "screen": lambda below, above: 1 - (1 - below) * (1 - above),
    "overlay": lambda below, above: np.where(
        below <= 0.5, 2 * below * above, 1 - 2 * (1 - below) * (1 - above)
    ),
    "soft_light": _soft_light,
    "difference": lambda below, above: below - above,
}


def blend(image1: Array, image2: Array, blend_factor: float, blend_mode: str) -> Array:
    """Mix the first image with the result of a blend mode."""
    above = resize(image2, size_of(image1), "bicubic", center=True)
    blended = _BLEND_MODES[blend_mode](image1, above)
    return np.clip(image1 * (1 - blend_factor) + blended * blend_factor, 0, 1)


def composite(
    destination: Array,
    source: Array,
    x: int,
    y: int,
    resize_source: bool,
    mask: Array | None = None,
) -> Array:
    """Lay the source onto the destination, where the mask is bright."""
    if resize_source:
        source = resize(source, size_of(destination), "bilinear")
    if mask is None:
        mask = np.ones(source.shape[:3], np.float32)
    mask = resize(mask, size_of(source), "bilinear")
    result = destination.copy()
    part = result[:, y : y + source.shape[1], x : x + source.shape[2]]
    height, width = part.shape[1:3]
    above = _repeated(source, len(part))[:, :height, :width]
    share = _repeated(mask, len(part))[:, :height, :width, np.newaxis]
    part[:] = share * above + (1 - share) * part
    return result


def _repeated(batch: Array, length: int) -> Array:
    """Repeat a batch from its beginning, or cut it, to a length."""
    return batch[np.arange(length) % len(batch)]


def mask_to_image(mask: Array) -> Array:
    """The mask as a grey image."""
    return np.repeat(mask[..., np.newaxis], 3, axis=-1)


def grow_mask(mask: Array, expand: int, tapered_corners: bool) -> Array:
    """Grow (or with a negative number shrink) the bright parts, pixel by pixel."""
    pick = np.minimum if expand < 0 else np.maximum
    neighbours = _CROSS if tapered_corners else _CROSS + _CORNERS
    height, width = mask.shape[1:]
    for _ in range(abs(expand)):
        padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)), "edge")
        shifted = [padded[:, 1 + y : 1 + y + height, 1 + x : 1 + x + width] for x, y in neighbours]
        mask = pick.reduce(shifted)
    return mask


def empty_latent(width: int, height: int, batch_size: int) -> tuple[dict[str, Array]]:
    """Zeros for images of this size."""
    return ({"samples": np.zeros((batch_size, 4, height // 8, width // 8), np.float32)},)
