"""The values that core nodes hand to each other: images, masks, audio, latents.

Real ComfyUI uses float tensors between 0 and 1. Here an image is a Pillow image with 8 bits per
channel, which is what is loaded and saved anyway; steps in between round to 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

T = TypeVar("T")


@dataclass(frozen=True)
class Images:
    """An ``IMAGE``: a batch of frames, mode RGB or RGBA, all of one size."""

    frames: tuple[Image.Image, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.frames[0].size

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Batch, height, width, channels: as the tensor that it stands for."""
        width, height = self.size
        return (len(self.frames), height, width, len(self.frames[0].getbands()))

    def map(self, change: Callable[[Image.Image], Image.Image]) -> Images:
        """The batch with every frame changed."""
        return Images(tuple(change(frame) for frame in self.frames))

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Image.Image]:
        return iter(self.frames)

    def __str__(self) -> str:
        return f"Images{self.shape}"


@dataclass(frozen=True)
class Masks:
    """A ``MASK``: a batch of frames, mode L, all of one size."""

    frames: tuple[Image.Image, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.frames[0].size

    @property
    def shape(self) -> tuple[int, int, int]:
        """Batch, height, width."""
        width, height = self.size
        return (len(self.frames), height, width)

    def map(self, change: Callable[[Image.Image], Image.Image]) -> Masks:
        """The batch with every frame changed."""
        return Masks(tuple(change(frame) for frame in self.frames))

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Image.Image]:
        return iter(self.frames)

    def __str__(self) -> str:
        return f"Masks{self.shape}"


def of_equal_channels(first: Images, second: Images) -> tuple[Images, Images]:
    """Bring both to the channels of the first: alpha is dropped, or added as opaque."""
    mode = first.frames[0].mode
    return first, second.map(lambda frame: frame.convert(mode))


def repeated(frames: Sequence[T], length: int) -> list[T]:
    """Repeat a batch from its beginning, or cut it, to a length."""
    return [frames[index % len(frames)] for index in range(length)]
