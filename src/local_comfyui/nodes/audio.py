"""Nodes for sound (ComfyUI 0.3.64 ``nodes_audio``); PyAV reads and writes it, as there."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict, cast

import av
import numpy as np

from local_comfyui.nodes.core_node import Array, Comfy, Ui

_CODECS = {"flac": "flac", "mp3": "libmp3lame", "opus": "libopus"}
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)


class Audio(TypedDict):
    """An ``AUDIO``."""

    waveform: Array
    """Batch, channels, samples; between -1 and 1."""
    sample_rate: int


def read(path: Path) -> Audio | None:
    """The sound of a file of any kind that FFmpeg knows; None when there is none in it."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return None
        resampler = av.AudioResampler(format="fltp")  # one array per channel, whatever it was
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        waveform = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
        return {"waveform": waveform[np.newaxis], "sample_rate": frames[0].sample_rate}


def encode(
    container: av.container.OutputContainer,
    codec: str,
    waveform: Array,
    sample_rate: int,
    quality: str = "",
) -> None:
    """Add a stream of sound, given as (channels, samples), to a file."""
    layout = "mono" if len(waveform) == 1 else "stereo"  # ComfyUI knows no other
    rate = sample_rate
    if codec == "libopus":  # which knows these only; what is encoded is resampled
        rate = next((known for known in _OPUS_RATES if known >= rate), _OPUS_RATES[-1])
    stream = cast("av.AudioStream", container.add_stream(codec, rate=rate, layout=layout))
    if quality == "V0":
        stream.codec_context.qscale = True  # FFmpeg's -q:a 1, as ComfyUI sets it
    elif quality:
        stream.bit_rate = int(quality.removesuffix("k")) * 1000
    samples = np.ascontiguousarray(waveform, np.float32)
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
    frame.sample_rate = sample_rate
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def load(comfy: Comfy, audio: str) -> tuple[Audio]:
    """Load the sound of a file; one without sound raises ValueError."""
    found = read(comfy.folders.annotated_path(audio))
    if found is None:
        raise ValueError("No audio stream found in the file.")
    return (found,)


def empty(duration: float, sample_rate: int, channels: int) -> tuple[Audio]:
    """Silence."""
    waveform = np.zeros((1, channels, round(duration * sample_rate)), np.float32)
    return ({"waveform": waveform, "sample_rate": sample_rate},)


def save(
    comfy: Comfy,
    audio: Audio,
    filename_prefix: str = "ComfyUI",
    quality: str = "",
    *,
    suffix: str = "flac",
    folder: str = "output",
) -> Ui:
    """Save in a folder, in the format of the suffix."""
    path = comfy.save_path(folder, filename_prefix)
    items = []
    for index, waveform in enumerate(audio["waveform"]):
        file = path.file(index, suffix)
        with av.open(str(file), "w") as container:
            container.metadata.update(comfy.metadata)
            encode(container, _CODECS[suffix], waveform, audio["sample_rate"], quality)
        items.append(path.item(file))
    return {"ui": {"audio": items}}
