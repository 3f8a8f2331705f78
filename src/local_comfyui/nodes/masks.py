"""Nodes for masks, and for images through masks."""

from __future__ import annotations

import operator
from typing import Any

from PIL import Image, ImageChops, ImageFilter, ImageOps

from local_comfyui.media import Images, Masks, of_equal_channels, repeated
from local_comfyui.nodes.core_node import CoreNodes, NodeContext
from local_comfyui.pixels import Formula, combine
from local_comfyui.resize import resize

NODES = CoreNodes()

_CHANNELS = {"red": "R", "green": "G", "blue": "B", "alpha": "A"}


def _rounded(value: Any) -> Any:
    """A number of `combine` as 0 or 1."""
    return value > 0.5


_OPERATIONS: dict[str, Formula] = {
    "multiply": operator.mul,
    "add": operator.add,
    "subtract": operator.sub,
    "and": lambda first, second: _rounded(first) * _rounded(second) * 1.0,
    "or": lambda first, second: (_rounded(first) + _rounded(second)) * 1.0,
    "xor": lambda first, second: ((_rounded(first) + _rounded(second)) == 1) * 1.0,
}


@NODES.node("SolidMask")
def solid(_context: NodeContext, value: float, width: int, height: int) -> Masks:
    """A mask of one value."""
    return Masks((Image.new("L", (width, height), int(value * 255 + 1e-3)),))


@NODES.node("InvertMask")
def invert(_context: NodeContext, mask: Masks) -> Masks:
    """One minus the mask."""
    return mask.map(ImageOps.invert)


@NODES.node("MaskToImage")
def to_image(_context: NodeContext, mask: Masks) -> Images:
    """The mask as a grey image."""
    return Images(tuple(frame.convert("RGB") for frame in mask))


@NODES.node("ImageToMask")
def from_image(_context: NodeContext, image: Images, channel: str) -> Masks:
    """One channel of an image.

    Raises:
        IndexError: The image has no alpha.
    """
    band = _CHANNELS[channel]
    if band not in image.frames[0].getbands():
        raise IndexError("index 3 is out of bounds for dimension 3 with size 3")
    return Masks(tuple(frame.getchannel(band) for frame in image))


@NODES.node("ImageColorToMask")
def from_color(_context: NodeContext, image: Images, color: int) -> Masks:
    """White where the image has exactly this colour."""
    wanted = ((color >> 16) & 0xFF, (color >> 8) & 0xFF, color & 0xFF)

    def matching(frame: Image.Image) -> Image.Image:
        bands = [
            band.point([255 if value == level else 0 for value in range(256)])
            for band, level in zip(frame.convert("RGB").split(), wanted, strict=True)
        ]
        return ImageChops.darker(ImageChops.darker(bands[0], bands[1]), bands[2])

    return Masks(tuple(matching(frame) for frame in image))


@NODES.node("ThresholdMask")
def threshold(_context: NodeContext, mask: Masks, value: float) -> Masks:
    """White above a value, black up to it."""
    table = [255 if level / 255 > value else 0 for level in range(256)]
    return mask.map(lambda frame: frame.point(table))


@NODES.node("CropMask")
def crop(_context: NodeContext, mask: Masks, x: int, y: int, width: int, height: int) -> Masks:
    """Cut out a rectangle."""
    columns, rows = mask.size
    box = (min(x, columns), min(y, rows), min(x + width, columns), min(y + height, rows))
    return mask.map(lambda frame: frame.crop(box))


@NODES.node("MaskComposite")
def composite_masks(
    _context: NodeContext, destination: Masks, source: Masks, x: int, y: int, operation: str
) -> Masks:
    """Calculate with two masks where the second lies on the first."""
    width = min(source.size[0], destination.size[0] - x)
    height = min(source.size[1], destination.size[1] - y)
    if width <= 0 or height <= 0:
        return destination
    results = []
    for below, above in zip(destination, repeated(source.frames, len(destination)), strict=True):
        box = (x, y, x + width, y + height)
        part = above.crop((0, 0, width, height))
        result = below.copy()
        result.paste(combine(_OPERATIONS[operation], below.crop(box), part), box)
        results.append(result)
    return Masks(tuple(results))


@NODES.node("FeatherMask")
def feather(
    _context: NodeContext, mask: Masks, left: int, top: int, right: int, bottom: int
) -> Masks:
    """Fade the mask out towards its edges."""
    width, height = mask.size
    columns = _edge_factors(width, min(left, width), min(right, width))
    rows = _edge_factors(height, min(top, height), min(bottom, height))

    def feathered(frame: Image.Image) -> Image.Image:
        result = frame
        for factors, size in ((columns, (width, 1)), (rows, (1, height))):
            line = Image.new("F", size)
            line.putdata([factor * 255 for factor in factors])
            fade = line.resize(frame.size, Image.Resampling.NEAREST)
            result = combine(operator.mul, result, fade.convert("L"))
        return result

    return mask.map(feathered)


def _edge_factors(length: int, near: int, far: int) -> list[float]:
    """Per pixel of a line, how much of it stays.

    Counted from the far end, step 0 hits the first pixel and so on: ComfyUI indexes with ``-x``.
    """
    factors = [1.0] * length
    for index in range(near):
        factors[index] *= (index + 1) / near
    for index in range(far):
        factors[-index] *= (index + 1) / far
    return factors


@NODES.node("GrowMask")
def grow(_context: NodeContext, mask: Masks, expand: int, tapered_corners: bool) -> Masks:
    """Grow (or with a negative number shrink) the bright parts, pixel by pixel."""
    pick = ImageChops.darker if expand < 0 else ImageChops.lighter
    square = ImageFilter.MinFilter(3) if expand < 0 else ImageFilter.MaxFilter(3)

    def step(frame: Image.Image) -> Image.Image:
        if not tapered_corners:
            return frame.filter(square)
        result = frame
        for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            moved = frame.copy()
            moved.paste(frame, (x, y))
            result = pick(result, moved)
        return result

    def grown(frame: Image.Image) -> Image.Image:
        for _ in range(abs(expand)):
            frame = step(frame)
        return frame

    return mask.map(grown)


@NODES.node("JoinImageWithAlpha")
def join_alpha(_context: NodeContext, image: Images, alpha: Masks) -> Images:
    """Images with the inverted mask as alpha."""
    joined = []
    for frame, mask in zip(image, alpha, strict=False):
        picture = frame.convert("RGB").convert("RGBA")
        picture.putalpha(ImageOps.invert(resize(mask, image.size, "bilinear")))
        joined.append(picture)
    return Images(tuple(joined))


@NODES.node("SplitImageWithAlpha")
def split_alpha(_context: NodeContext, image: Images) -> tuple[Images, Masks]:
    """The colours, and the inverted alpha as a mask."""
    masks = [ImageOps.invert(frame.convert("RGBA").getchannel("A")) for frame in image]
    return image.map(_without_alpha), Masks(tuple(masks))


def _without_alpha(frame: Image.Image) -> Image.Image:
    return Image.merge("RGB", frame.split()[:3])


@NODES.node("ImageCompositeMasked")
def composite(
    _context: NodeContext,
    destination: Images,
    source: Images,
    x: int,
    y: int,
    resize_source: bool,
    mask: Masks | None = None,
) -> Images:
    """Lay the source onto the destination, where the mask is bright."""
    _, above = of_equal_channels(destination, source)
    if resize_source:
        above = above.map(lambda frame: resize(frame, destination.size, "bilinear"))
    shapes = mask.frames if mask else (Image.new("L", above.size, 255),)
    shapes = tuple(resize(shape, above.size, "bilinear") for shape in shapes)
    count = len(destination)
    results = []
    for below, frame, shape in zip(
        destination, repeated(above.frames, count), repeated(shapes, count), strict=True
    ):
        result = below.copy()
        result.paste(frame, (x, y), shape)
        results.append(result)
    return Images(tuple(results))


@NODES.node("ImagePadForOutpaint")
def pad_for_outpaint(
    _context: NodeContext,
    image: Images,
    left: int,
    top: int,
    right: int,
    bottom: int,
    feathering: int,
) -> tuple[Images, Masks]:
    """A grey border, and a mask that is bright there and fades into the image."""
    width, height = image.size
    size = (width + left + right, height + top + bottom)

    def padded(frame: Image.Image) -> Image.Image:
        canvas = Image.new(frame.mode, size, (127,) * len(frame.mode))
        canvas.paste(frame, (left, top))
        return canvas

    mask = Image.new("L", size, 255)
    inner = Image.new("L", image.size, 0)
    if feathering > 0 and feathering * 2 < min(width, height):
        sides = (left != 0, top != 0, right != 0, bottom != 0)
        inner = _fade(image.size, sides, feathering)
    mask.paste(inner, (left, top))
    return image.map(padded), Masks((mask,))


def _fade(
    size: tuple[int, int], sides: tuple[bool, bool, bool, bool], feathering: int
) -> Image.Image:
    """Bright at the sides that get a border, dark from ``feathering`` pixels on inwards."""
    width, height = size
    columns = [
        min(x if sides[0] else width, width - x if sides[2] else width) for x in range(width)
    ]
    rows = [
        min(y if sides[1] else height, height - y if sides[3] else height) for y in range(height)
    ]
    levels = [
        int(255 * (max(0, feathering - distance) / feathering) ** 2)
        for distance in range(max(width, height) + 1)
    ]
    fade = Image.new("L", size)
    fade.putdata([levels[min(column, row)] for row in rows for column in columns])
    return fade
