"""Nodes that change the look of an image (ComfyUI's ``nodes_post_processing``)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image, ImageMath

from local_comfyui.media import Images, of_equal_channels, repeated
from local_comfyui.nodes.core_node import CoreNodes, NodeContext
from local_comfyui.pixels import Formula, combine_channels, evaluate, reflected_border, where
from local_comfyui.resize import cut_to_aspect, resize_floats

NODES = CoreNodes()


def _soft_light(first: Any, second: Any) -> Any:
    root = where(first <= 0.25, ((16 * first - 12) * first + 4) * first, first**0.5)
    darker = first - (1 - 2 * second) * first * (1 - first)
    return where(second <= 0.5, darker, first + (2 * second - 1) * (root - first))


_BLEND_MODES: dict[str, Formula] = {
    "normal": lambda _first, second: second,
    "multiply": lambda first, second: first * second,
    "screen": lambda first, second: 1 - (1 - first) * (1 - second),
    "overlay": lambda first, second: where(
        first <= 0.5, 2 * first * second, 1 - 2 * (1 - first) * (1 - second)
    ),
    "soft_light": _soft_light,
    "difference": lambda first, second: first - second,
}


@NODES.node("ImageBlend")
def blend(
    _context: NodeContext, image1: Images, image2: Images, blend_factor: float, blend_mode: str
) -> Images:
    """Mix the first image with the result of a blend mode."""
    mode = _BLEND_MODES[blend_mode]
    _, other = of_equal_channels(image1, image2)
    second = repeated([_fitted(frame, image1.size) for frame in other], len(image1))

    def mixed(below: Any, above: Any) -> Any:
        return below * (1 - blend_factor) + mode(below, above) * blend_factor

    return Images(
        tuple(
            combine_channels(mixed, frame.mode, frame.split(), channels)
            for frame, channels in zip(image1, second, strict=True)
        )
    )


def _fitted(frame: Image.Image, size: tuple[int, int]) -> Sequence[Image.Image]:
    """The channels in the size of the other image, not clamped before they are blended."""
    if frame.size == size:
        return frame.split()
    return resize_floats(cut_to_aspect(frame, size), size, "bicubic")


def _gauss(radius: int, sigma: float) -> list[float]:
    """One dimension of ComfyUI's kernel: its edge is 1, so sigma is relative to the radius."""
    weights = [
        math.exp(-((index / radius) ** 2) / (2 * sigma * sigma))
        for index in range(-radius, radius + 1)
    ]
    return [weight / sum(weights) for weight in weights]


def _convolved(channel: Image.Image, weights: list[float]) -> Image.Image:
    """A channel as floats, weighted along its rows and columns; mirrored at the edges."""
    radius = len(weights) // 2
    width, height = channel.size
    wide = reflected_border(channel.convert("F"), radius)
    rows = _weighted(weights, lambda step: wide.crop((step, 0, step + width, wide.height)))
    return _weighted(weights, lambda step: rows.crop((0, step, width, step + height)))


def _weighted(weights: list[float], shifted: Callable[[int], Image.Image]) -> Image.Image:
    total = Image.new("F", shifted(0).size)
    for step, weight in enumerate(weights):
        add = functools.partial(_plus, weight=weight)
        total = ImageMath.lambda_eval(add, total=total, part=shifted(step))
    return total


def _plus(args: Mapping[str, Any], *, weight: float) -> Any:
    return args["total"] + args["part"] * weight


def _per_channel(image: Images, change: Callable[[Image.Image], Image.Image]) -> Images:
    return image.map(
        lambda frame: Image.merge(frame.mode, [change(channel) for channel in frame.split()])
    )


@NODES.node("ImageBlur")
def blur(_context: NodeContext, image: Images, blur_radius: int, sigma: float) -> Images:
    """Blur with a Gaussian kernel."""
    weights = _gauss(blur_radius, sigma)
    return _per_channel(
        image, lambda channel: evaluate(lambda blurred: blurred, _convolved(channel, weights))
    )


@NODES.node("ImageSharpen")
def sharpen(
    _context: NodeContext, image: Images, sharpen_radius: int, sigma: float, alpha: float
) -> Images:
    """Add ten times ``alpha`` of the difference between the image and its blurred self."""
    weights = _gauss(sharpen_radius, sigma)

    def sharpened(original: Any, blurred: Any) -> Any:
        return original + (original - blurred) * (alpha * 10)

    return _per_channel(
        image, lambda channel: evaluate(sharpened, channel, _convolved(channel, weights))
    )


@NODES.node("ImageQuantize")
def quantize(_context: NodeContext, image: Images, colors: int, dither: str) -> Images:
    """Reduce to a number of colours."""

    def reduced(frame: Image.Image) -> Image.Image:
        picture = frame.convert("RGB")
        palette = picture.quantize(colors=colors)
        method = Image.Dither.NONE
        if dither == "floyd-steinberg":
            method = Image.Dither.FLOYDSTEINBERG
        elif dither.startswith("bayer"):
            order = int(dither.removeprefix("bayer-"))
            used = len(palette.getpalette() or ()) // 3
            picture = _with_bayer_pattern(picture, order, 512 / used)
        return picture.quantize(palette=palette, dither=method).convert("RGB")

    return image.map(reduced)


def _with_bayer_pattern(picture: Image.Image, order: int, spread: float) -> Image.Image:
    """Add an ordered pattern of brightness to every channel."""
    matrix = _bayer(int(math.log2(order)))
    tile = Image.new("F", (order, order))
    tile.putdata([spread * value + 0.5 for row in matrix for value in row])
    pattern = Image.new("F", picture.size)
    for left in range(0, picture.width, order):
        for top in range(0, picture.height, order):
            pattern.paste(tile, (left, top))
    channels = [
        evaluate(lambda level, added: level + added, channel, pattern)
        for channel in picture.split()
    ]
    return Image.merge("RGB", channels)


def _bayer(level: int) -> list[list[float]]:
    """The ordered-dither matrix of side 2**level, centred on 0 and between -0.5 and 0.5."""
    if level == 0:
        return [[0.0]]
    count = 4**level
    inner = [[count * value for value in row] for row in _bayer(level - 1)]

    def row_of(left: float, right: float) -> list[list[float]]:
        return [
            [(value + left) / count for value in row] + [(value + right) / count for value in row]
            for row in inner
        ]

    return row_of(-1.5, 0.5) + row_of(1.5, -0.5)
