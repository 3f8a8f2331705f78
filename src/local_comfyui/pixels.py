"""Arithmetic on pixels: one formula for every pixel and channel, in floats between 0 and 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image, ImageMath, ImageOps

Formula = Callable[..., Any]

# Results are cut off, not rounded, as ComfyUI does when it saves; the margin keeps a value that
# is whole but for the float's last digit.
_MARGIN = 1e-3


def combine(formula: Formula, *frames: Image.Image) -> Image.Image:
    """Apply a formula to each channel of images of equal size and mode.

    Args:
        formula: Gets the same channel of each image as numbers between 0 and 1, on which
            ``+ - * / ** < <= > >=`` work; its result is clamped.
        frames: Mode L, RGB or RGBA.
    """
    return combine_channels(formula, frames[0].mode, *(frame.split() for frame in frames))


def combine_channels(formula: Formula, mode: str, *frames: Sequence[Image.Image]) -> Image.Image:
    """`combine` for images that are split into channels, of mode L or F."""
    channels = [
        evaluate(lambda *numbers: formula(*(number / 255.0 for number in numbers)) * 255.0, *same)
        for same in zip(*frames, strict=True)
    ]
    return channels[0] if len(channels) == 1 else Image.merge(mode, channels)


def evaluate(formula: Formula, *channels: Image.Image) -> Image.Image:
    """Apply a formula to single channels as floats between 0 and 255; gives mode L, clamped."""
    floats = {f"c{index}": channel.convert("F") for index, channel in enumerate(channels)}

    def clamped(args: Mapping[str, Any]) -> Any:
        result = formula(*(args[name] for name in floats)) + _MARGIN
        return args["convert"](args["min"](args["max"](result, 0.0), 255.0), "L")

    image: Image.Image = ImageMath.lambda_eval(clamped, **floats)
    return image


def where(condition: Any, then: Any, otherwise: Any) -> Any:
    """Choose per pixel; the condition is a comparison."""
    return condition * then + (1 - condition) * otherwise


def reflected_border(channel: Image.Image, width: int) -> Image.Image:
    """Add a border that mirrors the image around its outermost pixels, without repeating them.

    Raises:
        ValueError: The image is not larger than the border, so there is nothing to mirror.
    """
    if width >= min(channel.size):
        raise ValueError(f"a border of {width} pixels needs an image that is larger than that")
    columns, rows = channel.size
    wide = Image.new(channel.mode, (columns + 2 * width, rows))
    wide.paste(channel, (width, 0))
    wide.paste(ImageOps.mirror(channel.crop((1, 0, width + 1, rows))), (0, 0))
    right = channel.crop((columns - 1 - width, 0, columns - 1, rows))
    wide.paste(ImageOps.mirror(right), (columns + width, 0))
    full = Image.new(channel.mode, (columns + 2 * width, rows + 2 * width))
    full.paste(wide, (0, width))
    full.paste(ImageOps.flip(wide.crop((0, 1, wide.width, width + 1))), (0, 0))
    bottom = wide.crop((0, rows - 1 - width, wide.width, rows - 1))
    full.paste(ImageOps.flip(bottom), (0, rows + width))
    return full
