"""Resizing by the methods that ComfyUI names (0.3.64 ``comfy/utils.py`` ``common_upscale``).

``nearest-exact`` and ``lanczos`` are Pillow's own. The others are torch's: bilinear and bicubic
look at the nearest pixels even when they shrink an image, bicubic with a coefficient of -0.75, and
area takes the mean of all pixels that an output pixel touches. Pillow's filters of these names
differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image, ImageMath

from local_comfyui.pixels import evaluate

Size = tuple[int, int]

Weights = list[tuple[int, float]]
"""What one output pixel is made of along an axis: indexes of input pixels, and their shares."""

_OWN_FILTERS = {
    "nearest-exact": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
}
_CUBIC = -0.75


def resize(image: Image.Image, size: Size, method: str) -> Image.Image:
    """Resize to exactly this size.

    Raises:
        KeyError: The method is none of ComfyUI's.
    """
    if image.size == size:
        return image
    if method in _OWN_FILTERS:
        return image.resize(size, _OWN_FILTERS[method])
    channels = [
        evaluate(lambda levels: levels, part) for part in resize_floats(image, size, method)
    ]
    return channels[0] if len(channels) == 1 else Image.merge(image.mode, channels)


def resize_floats(image: Image.Image, size: Size, method: str) -> list[Image.Image]:
    """Resize the channels, as floats that may lie below 0 and above 255 where bicubic swings.

    Raises:
        KeyError: The method is none of bilinear, bicubic and area.
    """
    weights = _METHODS[method]
    columns, rows = weights(image.width, size[0]), weights(image.height, size[1])
    return [_resampled(channel, columns, rows) for channel in image.split()]


def cut_to_aspect(image: Image.Image, size: Size) -> Image.Image:
    """Cut away what does not have the aspect ratio of a size, keeping the middle."""
    old_aspect, new_aspect = image.width / image.height, size[0] / size[1]
    left = top = 0
    if old_aspect > new_aspect:
        left = round((image.width - image.width * (new_aspect / old_aspect)) / 2)
    elif old_aspect < new_aspect:
        top = round((image.height - image.height * (old_aspect / new_aspect)) / 2)
    return image.crop((left, top, image.width - left, image.height - top))


def _linear(old: int, new: int) -> list[Weights]:
    result = []
    for index in range(new):
        place = max(0.0, (index + 0.5) * old / new - 0.5)
        first = int(place)
        share = place - first
        result.append([(first, 1 - share), (min(first + 1, old - 1), share)])
    return result


def _cubic(old: int, new: int) -> list[Weights]:
    result = []
    for index in range(new):
        place = (index + 0.5) * old / new - 0.5
        first = math.floor(place)
        result.append(
            [
                (min(max(first + step, 0), old - 1), _cubic_share(abs(place - first - step)))
                for step in (-1, 0, 1, 2)
            ]
        )
    return result


def _cubic_share(distance: float) -> float:
    """Keys' convolution kernel."""
    if distance <= 1:
        return ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
    return ((distance - 5) * distance + 8) * distance * _CUBIC - 4 * _CUBIC


def _area(old: int, new: int) -> list[Weights]:
    result = []
    for index in range(new):
        start, end = index * old // new, -(-(index + 1) * old // new)
        result.append([(place, 1 / (end - start)) for place in range(start, end)])
    return result


_METHODS: dict[str, Callable[[int, int], list[Weights]]] = {
    "bilinear": _linear,
    "bicubic": _cubic,
    "area": _area,
}


def _resampled(
    channel: Image.Image, columns: Sequence[Weights], rows: Sequence[Weights]
) -> Image.Image:
    turned = channel.convert("F").transpose(Image.Transpose.TRANSPOSE)
    wide = _rows_mixed(turned, columns).transpose(Image.Transpose.TRANSPOSE)
    return _rows_mixed(wide, rows)


def _rows_mixed(image: Image.Image, rows: Sequence[Weights]) -> Image.Image:
    """An image whose rows are mixtures of the rows of another one."""
    size = (image.width, len(rows))
    total = Image.new("F", size)
    for step in range(max(map(len, rows))):
        part = Image.new("F", size)
        shares = Image.new("F", (1, len(rows)))
        for y, weights in enumerate(rows):
            if step < len(weights):
                row, share = weights[step]
                part.paste(image.crop((0, row, image.width, row + 1)), (0, y))
                shares.putpixel((0, y), share)
        wide_shares = shares.resize(size, Image.Resampling.NEAREST)
        total = ImageMath.lambda_eval(_plus_share, total=total, part=part, shares=wide_shares)
    return total


def _plus_share(args: Mapping[str, Any]) -> Any:
    return args["total"] + args["part"] * args["shares"]
