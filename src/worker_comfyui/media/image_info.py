"""What an image's headers tell; here, so that who only passes it on need not import Pillow."""

from __future__ import annotations

from dataclasses import dataclass


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
