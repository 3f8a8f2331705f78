"""Still images: what they are, and converting them with Pillow. Runs in `media.decoder` only."""

from __future__ import annotations

import itertools
import mmap
from io import SEEK_CUR, BytesIO
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from worker_comfyui.job import OutputOptions
from worker_comfyui.media.image_info import (
    MAX_FRAMES,
    READABLE,
    ConversionError,
    Converted,
    ImageInfo,
    State,
)
from worker_comfyui.media.image_metadata import (
    ORIENTATION_TAG,
    embedded,
    exif_with,
    exif_without,
    png_texts,
    strip,
)

CONVERTIBLE = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
JPEG_EXIF_BYTES = 65533
"""A segment's length has 16 bits, and counts its own two bytes."""
_PNGS = ("image/png", "image/apng")
_EXTENSIONS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}

# Pillow's own bomb check is one fixed number for the process; here every caller has a limit.
Image.MAX_IMAGE_PIXELS = None


def describe(source: Path, max_pixels: int | None = None) -> ImageInfo | None:
    """Read an image's headers, without decoding pixels; None: not a readable image.

    Args:
        source: The file.
        max_pixels: Stop counting frames once they have more pixels than this.

    Raises:
        MemoryError: its reader needs more memory than this process may have.
    """
    try:
        with Image.open(source, formats=READABLE) as image:
            width, height = image.size
            frames, pixels = _count(image, max_pixels)
            media_type = image.get_format_mimetype() or f"image/{(image.format or '').lower()}"
            return ImageInfo(media_type, width, height, frames, pixels)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - Pillow's readers raise anything on hostile data
        return None


def state(source: Path, media_type: str) -> State:
    """Tell whether an image is whole, as far as that is seen without decoding it.

    What is cut off is decoded as ComfyUI does it (0.3.64 node_helpers.py: a second attempt with
    LOAD_TRUNCATED_IMAGES).
    """
    try:
        if _is_cut_off(source, media_type):
            return _decodes_in_part(source)
        if media_type in _PNGS:  # of other formats, Pillow's `verify` looks at nothing
            with Image.open(source, formats=READABLE) as image:
                image.verify()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - as above
        return "damaged"
    return "sound"


def _is_cut_off(source: Path, media_type: str) -> bool:
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if media_type == "image/jpeg":
            return data.find(b"\xff\xd9", _start_of_scan(data)) < 0
        if media_type in _PNGS:
            place = 8
            while data[place + 4 : place + 8] != b"IEND":
                place += 12 + int.from_bytes(data[place : place + 4])
                if place > len(data) - 12:
                    return True
    return False


def _start_of_scan(data: mmap.mmap) -> int:
    """Return where a JPEG's pixels begin; 0 where that is not seen.

    What comes before may hold an end of its own: that of the small picture in a camera's EXIF.
    """
    place = 2
    while (marker := data[place : place + 2])[:1] == b"\xff":
        if marker == b"\xff\xda":
            return place
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return 0


def _decodes_in_part(source: Path) -> State:
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        with Image.open(source, formats=READABLE) as image:
            image.load()
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    return "cut"


def _count(image: Image.Image, max_pixels: int | None) -> tuple[int, int]:
    """Count frames and pixels.

    GIF and TIFF have no number of frames in their headers. Both are walked here, up to
    `MAX_FRAMES`: Pillow's own counts go to the end, in time that for TIFF grows with the square.
    """
    size = image.width * image.height
    if image.format == "GIF":
        frames = _gif_frames(getattr(image, "fp", None))
        return frames, frames * size
    if image.format != "TIFF":
        frames = getattr(image, "n_frames", 1)
        return frames, frames * size
    pixels = 0
    for frame in itertools.count():
        try:
            image.seek(frame)
        except EOFError:
            return frame, pixels
        pixels += image.width * image.height
        if (max_pixels is not None and pixels > max_pixels) or frame >= MAX_FRAMES:
            return frame + 1, pixels
    raise AssertionError("unreachable: the loop above has no end")


def _gif_frames(stream: IO[bytes] | None) -> int:
    """Count a GIF's frames, at least 1 and at most a little more than `MAX_FRAMES`."""
    if stream is None:
        return 1
    stream.seek(10)
    _skip_colours(stream, stream.read(3)[0])
    frames = 0
    while frames <= MAX_FRAMES:
        match stream.read(1):
            case b"!":  # an extension: its kind, then blocks
                stream.seek(1, SEEK_CUR)
            case b",":  # a frame: its place and colours, the code size, then blocks
                frames += 1
                _skip_colours(stream, stream.read(9)[8])
                stream.seek(1, SEEK_CUR)
            case _:
                break
        while length := int.from_bytes(stream.read(1)):
            stream.seek(length, SEEK_CUR)
    return max(frames, 1)


def _skip_colours(stream: IO[bytes], flags: int) -> None:
    if flags & 0x80:
        stream.seek(3 << (1 + (flags & 7)), SEEK_CUR)


def convert(source: Path, options: OutputOptions) -> Converted | None:
    """Convert a still image as the caller asked; None: it is left as it is.

    Left alone: what is no PNG, JPEG, WebP, BMP or TIFF, what is animated, and what has the asked
    format already. JPEG has no transparency: it becomes white. 16 bits a channel stay in PNG and
    become 8 elsewhere. A rotation in EXIF is applied. Colour profiles stay. ComfyUI's embedded
    workflow is carried over in the way ComfyUI itself embeds it in the new format, or left out
    where `metadata` is false; that alone is done without encoding PNG, WebP and JPEG again.

    Raises:
        ConversionError: the file is damaged, or the format cannot hold it.
        OSError: the new file cannot be written.
    """
    try:
        with Image.open(source, formats=CONVERTIBLE) as image:
            if image.format not in CONVERTIBLE:
                return None
            return _convert(image, source, options)
    except (UnidentifiedImageError, EOFError, ValueError):
        return None


def _convert(image: Image.Image, source: Path, options: OutputOptions) -> Converted | None:
    current = str(image.format)
    wanted = options.format.upper() if options.format else current
    data: bytes | None = None
    note = None
    try:
        animated = getattr(image, "n_frames", 1) > 1
        if animated or wanted == current:
            if options.metadata:
                return None
            upright = image.getexif().get(ORIENTATION_TAG, 1) == 1
            data = strip(current, source) if animated or upright else None
            if data is None and (animated or wanted not in _EXTENSIONS):
                return None
            wanted = current
        if data is None:
            data, note = _encoded(image, wanted, options)
    except (OSError, ValueError, SyntaxError, MemoryError) as error:
        raise ConversionError(str(error) or type(error).__name__) from error
    extension = _EXTENSIONS[wanted]
    target = source.with_name(f"{source.name}{extension}")
    target.write_bytes(data)
    return Converted(target, extension, note, describe(target))


def _encoded(image: Image.Image, wanted: str, options: OutputOptions) -> tuple[bytes, str | None]:
    """Encode in another format; return the data and what could not be carried over."""
    texts = embedded(image) if options.metadata else {}
    # A TIFF's tags describe the layout of that file, not the picture alone.
    exif = image.getexif() if options.metadata and image.format != "TIFF" else Image.Exif()
    profile = image.info.get("icc_profile")
    if image.getexif().get(ORIENTATION_TAG, 1) != 1:
        image = ImageOps.exif_transpose(image)
    exif.pop(ORIENTATION_TAG, None)
    pixels = _pixels(image, wanted)
    settings: dict[str, Any] = {}
    if profile and _colour(pixels.mode) == _colour(image.mode):
        settings["icc_profile"] = profile
    if wanted == "PNG":
        settings["pnginfo"] = png_texts(texts)
        exif = exif_without(texts, exif)
    else:
        settings["quality"] = options.quality
        exif = exif_with(texts, exif)
    note = None
    exif_data = exif.tobytes() if len(exif) else b""
    if wanted == "JPEG" and len(exif_data) > JPEG_EXIF_BYTES:
        note = (
            f"its metadata ({len(exif_data)} bytes) is more than a JPEG can hold, and is left out"
        )
    elif exif_data:
        settings["exif"] = exif_data
    # Pillow's writers fall back on `info`, for the colour profile and a JPEG's comment.
    transparency = pixels.info.get("transparency")
    pixels.info = {} if transparency is None else {"transparency": transparency}
    stream = BytesIO()
    pixels.save(stream, wanted, **settings)
    return stream.getvalue(), note


def _pixels(image: Image.Image, wanted: str) -> Image.Image:
    """Bring an image into a mode that the format can hold."""
    if image.mode == "F":
        raise ValueError("it has floating-point pixels")
    if image.mode.startswith("I"):
        if wanted == "PNG":
            return image if image.mode == "I;16" else image.convert("I;16")
        # By hand: Pillow's own conversion cuts 16 bits off at 255.
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if wanted == "PNG" and image.mode in {"1", "L", "LA", "P", "RGB", "RGBA"}:
        return image
    if image.has_transparency_data:
        return _flattened(image) if wanted == "JPEG" else image.convert("RGBA")
    grey = wanted == "JPEG" and image.mode in {"1", "L"}
    return image.convert("L" if grey else "RGB")


def _flattened(image: Image.Image) -> Image.Image:
    """Put an image with transparency onto white."""
    image = image.convert("RGBA")
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    return flat


def _colour(mode: str) -> str:
    """Return the colour space of a mode: a profile belongs to one."""
    if mode in {"RGB", "RGBA", "RGBa", "RGBX", "P", "PA"}:
        return "RGB"
    if mode in {"1", "L", "LA", "La"} or mode.startswith("I"):
        return "grey"
    return mode
