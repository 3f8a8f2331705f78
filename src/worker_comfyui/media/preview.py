"""A frame that a sampler shows → a small JPEG for the job's progress."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from PIL import Image

MAX_SIDE = 256
MAX_BYTES = 30_000
MAX_FRAME_BYTES = 4_000_000
MAX_PIXELS = {"JPEG": 4_200_000, "PNG": 1_100_000}
"""Of frames that are read: whoever follows the job must not wait for it. A JPEG is read at a
fraction of its size, a PNG is not."""

MAX_SCANS = 20
"""Of a JPEG: encoders write at most a dozen, and each costs a pass over the whole picture."""

_SCAN = b"\xff\xda"
_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG"
_FOREIGN_HEAD_BYTES = 32
_QUALITIES = (80, 60, 40, 20)


class Preview(TypedDict):
    """A picture in an update: `data` is base64."""

    media_type: str
    data: str
    width: int
    height: int


def preview(frame: bytes) -> Preview | None:
    """Make a frame small enough, where it is not; None: it cannot be read, or not quickly.

    Args:
        frame: A JPEG or PNG.
    """
    if len(frame) > MAX_FRAME_BYTES or frame.count(_SCAN) > MAX_SCANS:
        return None
    frame = _without_foreign_head(frame)
    from PIL import Image  # noqa: PLC0415 - for the jobs alone that are watched

    try:
        with Image.open(io.BytesIO(frame), formats=tuple(MAX_PIXELS)) as image:
            kind, width, height = str(image.format), image.width, image.height
            if width * height > MAX_PIXELS[kind]:
                return None
            if kind == "JPEG" and max(width, height) <= MAX_SIDE and len(frame) <= MAX_BYTES:
                return _shaped(frame, width, height)
            return _encoded(image)
    except Exception:  # noqa: BLE001 - Pillow raises what its parsers meet
        return None


def _without_foreign_head(frame: bytes) -> bytes:
    """Cut off what VideoHelperSuite and KJNodes write before the frames of a moving preview.

    Source: https://github.com/Kosinkadink/ComfyUI-VideoHelperSuite (latent_preview.py)
    """
    start = -1 if frame.startswith(_PNG) else frame.find(_JPEG, 0, _FOREIGN_HEAD_BYTES)
    return frame[start:] if start > 0 else frame


def _encoded(image: Image.Image) -> Preview | None:
    image.draft("RGB", (MAX_SIDE, MAX_SIDE))
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    small = image.convert("RGB")
    for quality in _QUALITIES:
        to = io.BytesIO()
        small.save(to, "JPEG", quality=quality)
        if to.tell() <= MAX_BYTES:
            return _shaped(to.getvalue(), small.width, small.height)
    return None


def _shaped(data: bytes, width: int, height: int) -> Preview:
    text = base64.b64encode(data).decode("ascii")
    return {"media_type": "image/jpeg", "data": text, "width": width, "height": height}
