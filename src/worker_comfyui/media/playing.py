"""A video or sound → how long it plays, as its headers say: nothing is decoded.

What a file does not say is left out. Of a large file only the headers are read.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from worker_comfyui.media import sounds, videos
from worker_comfyui.media.containers import DamagedError
from worker_comfyui.media.media_types import HEAD_BYTES, by_content

MAX_SECONDS = 1_000_000.0
MAX_FPS = 10_000.0
MAX_SIDE = 100_000


@dataclass(frozen=True, slots=True)
class Playing:
    """What the headers say; None: nothing of the kind.

    Attributes:
        seconds: How long it plays.
        fps: Frames a second, of a video.
        has_audio: Whether a video has sound.
        width: Of a video, in pixels.
        height: Of a video, in pixels.
    """

    seconds: float | None = None
    fps: float | None = None
    has_audio: bool | None = None
    width: int | None = None
    height: int | None = None


_VIDEOS: dict[str, Callable[[BinaryIO], videos.Tracks]] = {
    "video/mp4": videos.read_isobmff,
    "video/quicktime": videos.read_isobmff,
    "audio/mp4": videos.read_isobmff,
    "video/webm": videos.read_matroska,
}
_SOUNDS: dict[str, Callable[[BinaryIO], float | None]] = {
    "audio/flac": sounds.flac_seconds,
    "audio/wav": sounds.wav_seconds,
    "audio/mpeg": sounds.mp3_seconds,
    "audio/ogg": sounds.ogg_seconds,
}


def playing(path: Path) -> Playing | None:
    """Read a file's headers; None: it is no video or sound that is known, or is damaged.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        media_type = by_content(file.read(HEAD_BYTES)) or ""
        file.seek(0)
        try:
            if media_type in _VIDEOS:
                return _of_tracks(_VIDEOS[media_type](file))
            if media_type in _SOUNDS:
                return Playing(_bounded(_SOUNDS[media_type](file), MAX_SECONDS, 3))
        except (DamagedError, struct.error, ArithmeticError, IndexError):
            pass
    return None


def _of_tracks(tracks: videos.Tracks) -> Playing:
    seconds = _bounded(tracks.seconds, MAX_SECONDS, 3)
    picture = tracks.picture
    if picture is None:
        return Playing(seconds)
    fps = _bounded(picture.fps, MAX_FPS, 3)
    shown = 0 < picture.width <= MAX_SIDE and 0 < picture.height <= MAX_SIDE
    size = (picture.width, picture.height) if shown else (None, None)
    return Playing(seconds, fps, tracks.has_sound, *size)


def _bounded(number: float | None, most: float, digits: int) -> float | None:
    """Return a number that makes sense; None for any other."""
    if number is None or not math.isfinite(number) or not 0 < number <= most:
        return None
    return round(number, digits)
