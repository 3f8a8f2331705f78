"""Binary websocket frames: previews, with and without metadata (ComfyUI ``protocol.py``)."""

from __future__ import annotations

import io
import json
import struct
from enum import IntEnum

from PIL import Image, ImageOps

from local_comfyui.progress import Preview
from local_comfyui.prompt import Json


class FrameKind(IntEnum):
    """The first number of a binary frame."""

    PREVIEW_IMAGE = 1
    TEXT = 3
    PREVIEW_IMAGE_WITH_METADATA = 4


def preview_frame(preview: Preview) -> bytes:
    """Kind 1: kind, image format (1 JPEG, 2 PNG), image; integers are big-endian u32."""
    number, content = (1 if preview[0] == "JPEG" else 2), _encoded(preview)
    return struct.pack(">II", FrameKind.PREVIEW_IMAGE, number) + content


def preview_frame_with_metadata(preview: Preview, metadata: Json) -> bytes:
    """Kind 4: kind, length of the JSON, JSON with the node's ids and ``image_type``, image."""
    media_type = "image/jpeg" if preview[0] == "JPEG" else "image/png"
    text = json.dumps({**metadata, "image_type": media_type}).encode()
    header = struct.pack(">II", FrameKind.PREVIEW_IMAGE_WITH_METADATA, len(text))
    return header + text + _encoded(preview)


def _encoded(preview: Preview) -> bytes:
    image_format, image, longest_side = preview
    if longest_side is not None:
        size = (longest_side, longest_side)
        image = ImageOps.contain(image, size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format=image_format, quality=95, compress_level=1)
    return buffer.getvalue()
