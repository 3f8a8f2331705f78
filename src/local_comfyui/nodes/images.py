"""Nodes that make images and change their size, place and number."""

from __future__ import annotations

import math

from PIL import Image, ImageOps

from local_comfyui.media import Images
from local_comfyui.nodes.core_node import CoreNodes, NodeContext
from local_comfyui.resize import cut_to_aspect, resize

NODES = CoreNodes()

_TURNS = {
    "90": Image.Transpose.ROTATE_270,  # ComfyUI turns clockwise, Pillow counter-clockwise
    "180": Image.Transpose.ROTATE_180,
    "270": Image.Transpose.ROTATE_90,
}
_COLORS = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
}


def _resized(image: Images, size: tuple[int, int], method: str) -> Images:
    return image.map(lambda frame: resize(frame, size, method))


@NODES.node("EmptyImage")
def empty_image(
    _context: NodeContext, width: int, height: int, batch_size: int, color: int
) -> Images:
    """Images of one colour, given as 0xRRGGBB."""
    rgb = ((color >> 16) & 0xFF, (color >> 8) & 0xFF, color & 0xFF)
    return Images((Image.new("RGB", (width, height), rgb),) * batch_size)


@NODES.node("GetImageSize")
def image_size(
    _context: NodeContext, image: Images, unique_id: str | None = None
) -> tuple[int, int, int]:
    """Width, height and batch size."""
    del unique_id  # ComfyUI shows the size on its page with it
    return (*image.size, len(image))


@NODES.node("ImageInvert")
def invert(_context: NodeContext, image: Images) -> Images:
    """Every channel turned around, alpha too."""
    return image.map(lambda frame: frame.point(lambda value: 255 - value))


@NODES.node("ImageScale")
def scale(
    _context: NodeContext, image: Images, upscale_method: str, width: int, height: int, crop: str
) -> Images:
    """Scale to a size; a side of 0 follows from the other one."""
    if width == 0 and height == 0:
        return image
    old_width, old_height = image.size
    width = width or max(1, round(old_width * height / old_height))
    height = height or max(1, round(old_height * width / old_width))
    size = (width, height)
    if crop == "center":
        image = image.map(lambda frame: cut_to_aspect(frame, size))
    return _resized(image, size, upscale_method)


@NODES.node("ImageScaleBy")
def scale_by(_context: NodeContext, image: Images, upscale_method: str, scale_by: float) -> Images:
    """Scale by a factor."""
    width, height = image.size
    return _resized(image, (round(width * scale_by), round(height * scale_by)), upscale_method)


@NODES.node("ImageScaleToTotalPixels")
def scale_to_total_pixels(
    _context: NodeContext, image: Images, upscale_method: str, megapixels: float
) -> Images:
    """Scale so that the number of pixels is about ``megapixels`` times 1024 * 1024."""
    width, height = image.size
    factor = math.sqrt(int(megapixels * 1024 * 1024) / (width * height))
    return _resized(image, (round(width * factor), round(height * factor)), upscale_method)


@NODES.node("ImageScaleToMaxDimension")
def scale_to_max_dimension(
    _context: NodeContext, image: Images, upscale_method: str, largest_size: int
) -> Images:
    """Scale so that the longer side has a length."""
    width, height = image.size
    if height > width:
        size = (round((width / height) * largest_size), largest_size)
    elif width > height:
        size = (largest_size, round((height / width) * largest_size))
    else:
        size = (largest_size, largest_size)
    return _resized(image, size, upscale_method)


@NODES.node("ResizeAndPadImage")
def resize_and_pad(
    _context: NodeContext,
    image: Images,
    target_width: int,
    target_height: int,
    padding_color: str,
    interpolation: str,
) -> Images:
    """Fit into a size, and fill what is left."""
    width, height = image.size
    factor = min(target_width / width, target_height / height)
    inner = _resized(image, (int(width * factor), int(height * factor)), interpolation)
    place = ((target_width - inner.size[0]) // 2, (target_height - inner.size[1]) // 2)
    level = 0 if padding_color == "black" else 255

    def padded(frame: Image.Image) -> Image.Image:
        canvas = Image.new(frame.mode, (target_width, target_height), (level,) * len(frame.mode))
        canvas.paste(frame, place)
        return canvas

    return inner.map(padded)


@NODES.node("ImageCrop")
def crop(_context: NodeContext, image: Images, width: int, height: int, x: int, y: int) -> Images:
    """Cut out a rectangle; what lies outside the image is left out."""
    columns, rows = image.size
    left, top = min(x, columns - 1), min(y, rows - 1)
    box = (left, top, min(left + width, columns), min(top + height, rows))
    return image.map(lambda frame: frame.crop(box))


@NODES.node("ImageFlip")
def flip(_context: NodeContext, image: Images, flip_method: str) -> Images:
    """Turn upside down (``x-axis: vertically``) or mirror (``y-axis: horizontally``)."""
    return image.map(ImageOps.flip if flip_method.startswith("x") else ImageOps.mirror)


@NODES.node("ImageRotate")
def rotate(_context: NodeContext, image: Images, rotation: str) -> Images:
    """Turn clockwise by quarters."""
    turn = _TURNS.get(rotation.split(" ", maxsplit=1)[0])
    return image if turn is None else image.map(lambda frame: frame.transpose(turn))


@NODES.node("ImageBatch")
def batch(_context: NodeContext, image1: Images, image2: Images) -> Images:
    """Both batches one after the other, the second scaled to the size of the first."""
    with_alpha = "RGBA" in (image1.frames[0].mode, image2.frames[0].mode)
    mode = "RGBA" if with_alpha else "RGB"
    cut = image2.map(lambda frame: cut_to_aspect(frame, image1.size))
    second = _resized(cut, image1.size, "bilinear")
    return Images(tuple(frame.convert(mode) for frame in (*image1, *second)))


@NODES.node("RepeatImageBatch")
def repeat_batch(_context: NodeContext, image: Images, amount: int) -> Images:
    """The whole batch several times."""
    return Images(image.frames * amount)


@NODES.node("ImageFromBatch")
def from_batch(_context: NodeContext, image: Images, batch_index: int, length: int) -> Images:
    """A part of a batch."""
    first = min(len(image) - 1, batch_index)
    return Images(image.frames[first : first + length])


@NODES.node("RebatchImages", takes_lists=True)
def rebatch(_context: NodeContext, images: list[Images], batch_size: list[int]) -> tuple[object]:
    """All batches of a list, as a list of batches of another size."""
    frames = [frame for part in images for frame in part]
    size = batch_size[0]
    parts = range(0, len(frames), size)
    return ([Images(tuple(frames[start : start + size])) for start in parts],)


@NODES.node("ImageStitch")
def stitch(
    _context: NodeContext,
    image1: Images,
    direction: str,
    match_image_size: bool,
    spacing_width: int,
    spacing_color: str,
    image2: Images | None = None,
) -> Images:
    """Put the second image beside the first."""
    if image2 is None:
        return image1
    sideways = direction in ("left", "right")
    if match_image_size:
        (width, height), aspect = image1.size, image2.size[0] / image2.size[1]
        size = (int(height * aspect), height) if sideways else (width, int(width / aspect))
        image2 = _resized(image2, size, "lanczos")
    mode = max((image1.frames[0].mode, image2.frames[0].mode), key=len)
    color = _COLORS[spacing_color]
    gap = spacing_width + spacing_width % 2
    stitched = []
    for index in range(max(len(image1), len(image2))):
        pair = [part.frames[min(index, len(part) - 1)].convert(mode) for part in (image1, image2)]
        if direction in ("left", "up"):
            pair.reverse()
        stitched.append(_side_by_side(pair[0], pair[1], gap, color, sideways=sideways))
    return Images(tuple(stitched))


def _side_by_side(
    first: Image.Image,
    second: Image.Image,
    gap: int,
    color: tuple[int, int, int],
    *,
    sideways: bool,
) -> Image.Image:
    breadth = max(first.height, second.height) if sideways else max(first.width, second.width)
    length = (first.width + second.width if sideways else first.height + second.height) + gap
    size = (length, breadth) if sideways else (breadth, length)
    # Beside a smaller image ComfyUI fills with the colour's brightness only: black for red.
    background = color if len(set(color)) == 1 else (0, 0, 0)
    canvas = Image.new("RGB", size, background).convert(first.mode)
    start = first.width if sideways else first.height
    bar = (start, 0, start + gap, breadth) if sideways else (0, start, breadth, start + gap)
    canvas.paste(Image.new("RGB", (bar[2] - bar[0], bar[3] - bar[1]), color), bar)
    for image, offset in ((first, 0), (second, start + gap)):
        margin = (breadth - (image.height if sideways else image.width)) // 2
        canvas.paste(image, (offset, margin) if sideways else (margin, offset))
    return canvas


@NODES.node("ImageRGBToYUV")
def rgb_to_yuv(_context: NodeContext, image: Images) -> tuple[Images, Images, Images]:
    """The planes Y, U and V as grey images."""
    planes = [frame.convert("RGB").convert("YCbCr").split() for frame in image]
    y, u, v = (Images(tuple(frame[index].convert("RGB") for frame in planes)) for index in range(3))
    return y, u, v


@NODES.node("ImageYUVToRGB")
def yuv_to_rgb(_context: NodeContext, Y: Images, U: Images, V: Images) -> Images:  # noqa: N803 - the inputs
    """A colour image from the planes Y, U and V."""
    return Images(
        tuple(
            Image.merge("YCbCr", [plane.convert("L") for plane in planes]).convert("RGB")
            for planes in zip(Y, U, V, strict=True)
        )
    )
