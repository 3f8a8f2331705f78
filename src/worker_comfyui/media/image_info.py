"""What is known of images, and what happens to them; for all who never open one themselves.

Only `media.decoder`, a process of its own, imports Pillow.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

READABLE = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO")
"""Pillow's names of the formats that are recognised: those that need no outside program."""

MAX_FRAMES = 10_000

State = Literal["sound", "cut", "damaged"]
"""`cut`: its last bytes are missing, but ComfyUI can decode it."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image's headers tell.

    Attributes:
        media_type: Such as `image/png`.
        width: Of the first frame, in pixels.
        height: Of the first frame, in pixels.
        frames: 1 for a still image.
        pixels: Of all frames together; counting stops soon above the caller's limit.
    """

    media_type: str
    width: int
    height: int
    frames: int
    pixels: int

    @property
    def animated(self) -> bool:
        """Whether it has several frames."""
        return self.frames > 1


class DecodingRefused(Exception):
    """An image takes more memory or time than it may; the message follows "it"."""


class ConversionError(Exception):
    """An image could not be converted; the message says why, as part of a sentence."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A converted image.

    Attributes:
        path: The new file, beside the source.
        extension: Such as `.jpg`.
        note: What could not be carried over, as part of a sentence; None: nothing.
        info: What its headers tell.
    """

    path: Path
    extension: str
    note: str | None = None
    info: ImageInfo | None = None
