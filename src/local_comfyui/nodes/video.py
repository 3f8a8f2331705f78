"""Nodes for video (ComfyUI 0.3.64 ``nodes_video``); PyAV reads and writes it, as there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np

from local_comfyui.nodes import audio as sound
from local_comfyui.nodes.audio import Audio
from local_comfyui.nodes.core_node import Array, Comfy, Ui
from local_comfyui.nodes.pictures import Size, size_of, to_bytes

_KEEP_OTHER_NAMES = {"movflags": "use_metadata_tags"}  # else an MP4 has no place for metadata

# Fast settings: what is encoded here is looked at once.
_WEBM_CODECS = {
    "vp9": ("libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
    "av1": ("libsvtav1", "yuv420p10le", {"preset": "10"}),
}


@dataclass(frozen=True)
class Components:
    """A ``VIDEO`` that is not encoded yet."""

    images: Array
    fps: float
    audio: Audio | None = None

    def size(self) -> Size:
        """Width and height."""
        return size_of(self.images)

    def save(self, file: Path, _codec: str, metadata: Mapping[str, str]) -> None:
        """Write an MP4 with H.264 and AAC."""
        with av.open(str(file), "w", options=_KEEP_OTHER_NAMES) as container:
            container.metadata.update(metadata)
            self.encode(container, "h264", "yuv420p", {})

    def encode(
        self,
        container: av.container.OutputContainer,
        codec: str,
        pixel_format: str,
        options: dict[str, str],
    ) -> None:
        """Add pictures, and the sound as long as they last, to a file."""
        rate = Fraction(round(self.fps * 1000), 1000)  # FFmpeg takes no float
        stream = cast("av.VideoStream", container.add_stream(codec, rate=rate, options=options))
        stream.width, stream.height = self.size()
        stream.pix_fmt = pixel_format
        stream.bit_rate = 0  # so that `crf` decides (nodes_video.py)
        if self.audio is not None:  # first: a file's streams are all there before its packets
            samples = math.ceil(self.audio["sample_rate"] / rate * len(self.images))
            waveform = self.audio["waveform"][0, :, :samples]
            sound.encode(container, "aac", waveform, self.audio["sample_rate"])
        for image in self.images:
            frame = av.VideoFrame.from_ndarray(to_bytes(image[..., :3]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@dataclass(frozen=True)
class VideoFile:
    """A ``VIDEO`` that lies in the input folder."""

    path: Path

    def size(self) -> Size:
        """Width and height."""
        with av.open(str(self.path)) as container:
            return container.streams.video[0].width, container.streams.video[0].height

    def components(self) -> Components:
        """Decode all of it."""
        with av.open(str(self.path)) as container:
            fps = float(container.streams.video[0].average_rate or 1)
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        images = np.stack(frames).astype(np.float32) / np.float32(255)
        return Components(images, fps, sound.read(self.path))

    def save(self, file: Path, codec: str, metadata: Mapping[str, str]) -> None:
        """Copy what is encoded already, if it may stay as it is; else encode it anew."""
        with av.open(str(self.path)) as given:
            if codec not in ("auto", given.streams.video[0].codec_context.name):
                self.components().save(file, codec, metadata)
                return
            streams = (*given.streams.video, *given.streams.audio)
            with av.open(str(file), "w", options=_KEEP_OTHER_NAMES) as written:
                written.metadata.update({**given.metadata, **metadata})
                copies = {each.index: written.add_stream_from_template(each) for each in streams}
                for packet in given.demux(*streams):
                    if packet.dts is not None:  # None marks the end of a stream
                        packet.stream = copies[packet.stream.index]
                        written.mux(packet)


def load(comfy: Comfy, file: str) -> VideoFile:
    """A video of the input folder."""
    return VideoFile(comfy.folders.annotated_path(file))


def create(images: Array, fps: float, audio: Audio | None = None) -> Components:
    """Images, and optionally a sound, as a video."""
    return Components(images, fps, audio)


def get_components(video: Components | VideoFile) -> tuple[Array, Audio | None, float]:
    """The images, the sound and the frames per second of a video."""
    parts = video if isinstance(video, Components) else video.components()
    return parts.images, parts.audio, parts.fps


def save(
    comfy: Comfy, video: Components | VideoFile, filename_prefix: str, format: str, codec: str
) -> Ui:
    """Save as MP4 in the output folder.

    Raises:
        ValueError: The format or the codec is none of the node's. Choices of this shape pass
            ComfyUI's validation whatever they are.
    """
    if format not in ("auto", "mp4"):
        raise ValueError(f"{format!r} is not a valid VideoContainer")
    if codec not in ("auto", "h264"):
        raise ValueError("Only H264 codec is supported for now")
    path = comfy.save_path("output", filename_prefix, video.size())
    file = path.file(0, "mp4")
    video.save(file, codec, comfy.metadata)
    return {"ui": {"images": [path.item(file)], "animated": [True]}}


def save_webm(
    comfy: Comfy, images: Array, filename_prefix: str, codec: str, fps: float, crf: float
) -> Ui:
    """Save as WebM in the output folder."""
    name, pixel_format, options = _WEBM_CODECS[codec]
    path = comfy.save_path("output", filename_prefix, size_of(images))
    file = path.file(0, "webm")
    with av.open(str(file), "w") as container:
        container.metadata.update(comfy.metadata)
        options = {**options, "crf": str(round(crf))}
        Components(images, fps).encode(container, name, pixel_format, options)
    return {"ui": {"images": [path.item(file)], "animated": [True]}}
