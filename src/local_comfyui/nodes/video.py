"""Nodes for video (ComfyUI's ``nodes_video``).

Pillow has one video encoder, AV1 by way of AVIF. So every video is AV1 here, whatever codec the
workflow names, and a sound that goes with it is left out, with a line in the log.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from local_comfyui import av1, mp4, webm
from local_comfyui.media import Images
from local_comfyui.nodes.audio import Audio
from local_comfyui.nodes.core_node import CoreNodes, NodeContext
from local_comfyui.prompt import Json

NODES = CoreNodes()

_log = logging.getLogger(__name__)

_FORMATS = ("auto", "mp4")
_CODECS = ("auto", "h264")
_QUALITY = 60
_WORST_CRF = 63


@dataclass(frozen=True)
class VideoSource:
    """A ``VIDEO``: frames that are not encoded yet."""

    images: Images
    fps: float
    audio: Audio | None = None


@NODES.node("CreateVideo")
def create(
    _context: NodeContext, images: Images, fps: float, audio: Audio | None = None
) -> VideoSource:
    """Images, and optionally a sound, as a video."""
    return VideoSource(images, fps, audio)


@NODES.node("GetVideoComponents")
def components(_context: NodeContext, video: VideoSource) -> tuple[Images, Audio | None, float]:
    """The images, the sound and the frames per second of a video."""
    return video.images, video.audio, video.fps


@NODES.node("SaveVideo")
def save_video(
    context: NodeContext,
    video: VideoSource,
    filename_prefix: str,
    format: str,  # noqa: A002 - the node's input; MP4 is the only one
    codec: str,  # see the module's docstring
    prompt: Json | None = None,
    extra_pnginfo: Json | None = None,
) -> Json:
    """Save as MP4 in the output folder."""
    # Choices of this kind pass ComfyUI's validation whatever they are; the node fails.
    if format not in _FORMATS:
        raise ValueError(f"{format!r} is not a valid VideoContainer")
    if codec not in _CODECS:
        raise ValueError("Only H264 codec is supported for now")
    if video.audio is not None:
        _log.warning("SaveVideo: local_comfyui saves videos without their sound")
    path = context.save_path("output", filename_prefix, video.images.size)
    encoded = _encode(video.images, video.fps, _QUALITY)
    content = mp4.write(encoded, context.metadata(prompt, extra_pnginfo))
    return {"ui": {"images": [path.write(0, "mp4", content)], "animated": [True]}}


@NODES.node("SaveWEBM")
def save_webm(
    context: NodeContext,
    images: Images,
    filename_prefix: str,
    codec: str,  # noqa: ARG001 - the node's input; see the module's docstring
    fps: float,
    crf: float,
    prompt: Json | None = None,
    extra_pnginfo: Json | None = None,
) -> Json:
    """Save as WebM in the output folder."""
    path = context.save_path("output", filename_prefix, images.size)
    encoded = _encode(images, fps, round(100 * (1 - crf / _WORST_CRF)))
    content = webm.write(encoded, context.metadata(prompt, extra_pnginfo))
    return {"ui": {"images": [path.write(0, "webm", content)], "animated": [True]}}


def _encode(images: Images, fps: float, quality: int) -> av1.Video:
    return av1.encode([frame.convert("RGB") for frame in images], fps, quality)
