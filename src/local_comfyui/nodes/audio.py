"""Nodes for sound (ComfyUI's ``nodes_audio``), as far as the standard library reads and writes it.

WAV files are loaded, FLAC files are saved. Formats that need a codec (MP3, Opus) are not there.
"""

from __future__ import annotations

import hashlib
import itertools
import operator
import wave
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from local_comfyui import flac
from local_comfyui.folders import OutsideFolderError
from local_comfyui.nodes.core_node import CoreNodes, NodeContext
from local_comfyui.prompt import Json

NODES = CoreNodes()

_FULL_SCALE = 32768.0
_LOADABLE = (".wav",)


@dataclass(frozen=True)
class Audio:
    """An ``AUDIO``: per channel an array of samples of type ``f``, between -1 and 1."""

    channels: tuple[array[float], ...]
    sample_rate: int

    def map(self, change: Callable[[array[float]], array[float]]) -> Audio:
        """The sound with every channel changed."""
        return Audio(tuple(change(channel) for channel in self.channels), self.sample_rate)

    def __len__(self) -> int:
        return len(self.channels[0])


def _audio_files(context: NodeContext) -> list[str]:
    return [name for name in context.folders.input_files() if name.lower().endswith(_LOADABLE)]


def _file_hash(context: NodeContext, audio: str) -> str:
    return hashlib.sha256(context.folders.annotated_path(audio).read_bytes()).hexdigest()


def _file_exists(context: NodeContext, audio: str) -> bool | str:
    try:
        exists = context.folders.annotated_path(audio).exists()
    except OutsideFolderError:
        exists = False
    return True if exists else f"Invalid audio file: {audio}"


@NODES.node(
    "LoadAudio", options={"audio": _audio_files}, is_changed=_file_hash, validate=_file_exists
)
def load_audio(context: NodeContext, audio: str) -> Audio:
    """Load a WAV file of 16 bits per sample.

    Raises:
        ValueError: The file is something else; ComfyUI itself reads far more.
    """
    try:
        with wave.open(str(context.folders.annotated_path(audio)), "rb") as file:
            width, count, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            content = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"local_comfyui loads only WAV files, not {audio}: {error}") from error
    if width != 2:  # bytes
        raise ValueError(f"local_comfyui loads only 16-bit WAV files; {audio} has {8 * width}")
    samples = memoryview(content).cast("h")
    return Audio(
        tuple(
            array("f", [sample / _FULL_SCALE for sample in samples[channel::count]])
            for channel in range(count)
        ),
        rate,
    )


@NODES.node("EmptyAudio")
def empty_audio(_context: NodeContext, duration: float, sample_rate: int, channels: int) -> Audio:
    """Silence."""
    silence = array("f", bytes(4 * round(duration * sample_rate)))
    return Audio((silence,) * channels, sample_rate)


@NODES.node("SplitAudioChannels")
def split_channels(_context: NodeContext, audio: Audio) -> tuple[Audio, Audio]:
    """Left and right.

    Raises:
        ValueError: There is only one channel.
    """
    if len(audio.channels) != 2:
        raise ValueError("AudioSplit: Input audio has only one channel.")
    left, right = audio.channels
    return Audio((left,), audio.sample_rate), Audio((right,), audio.sample_rate)


@NODES.node("TrimAudioDuration")
def trim(_context: NodeContext, audio: Audio, start_index: float, duration: float) -> Audio:
    """A part, from a time on; a negative time counts from the end.

    Raises:
        ValueError: Nothing is left.
    """
    start = round(start_index * audio.sample_rate) + (len(audio) if start_index < 0 else 0)
    start = max(0, min(start, len(audio) - 1))
    end = max(0, min(start + round(duration * audio.sample_rate), len(audio)))
    if start >= end:
        raise ValueError(
            "AudioTrim: Start time must be less than end time and be within the audio length."
        )
    return audio.map(lambda channel: channel[start:end])


@NODES.node("AudioConcat")
def concatenate(_context: NodeContext, audio1: Audio, audio2: Audio, direction: str) -> Audio:
    """Both in stereo, one after the other."""
    pair = [_stereo(audio1), _stereo(audio2)]
    _require_same_rate(*pair)
    if direction == "before":
        pair.reverse()
    first, second = pair
    joined = (one + two for one, two in zip(first.channels, second.channels, strict=True))
    return Audio(tuple(joined), first.sample_rate)


@NODES.node("AudioMerge")
def merge(_context: NodeContext, audio1: Audio, audio2: Audio, merge_method: str) -> Audio:
    """Both at once, as long as the first; made quieter where it would be too loud."""
    _require_same_rate(audio1, audio2)
    formulas: dict[str, Callable[[float, float], float]] = {
        "add": operator.add,
        "mean": lambda one, two: (one + two) / 2,
        "subtract": operator.sub,
        "multiply": operator.mul,
    }
    length = len(audio1)
    channels = max(len(audio1.channels), len(audio2.channels))
    pairs = zip(_spread(audio1, channels), _spread(audio2, channels), strict=True)
    merged = [
        array(
            "f",
            map(formulas[merge_method], one, itertools.chain(two[:length], _zeros(length, two))),
        )
        for one, two in pairs
    ]
    loudest = max((abs(sample) for channel in merged for sample in channel), default=0.0)
    result = Audio(tuple(merged), audio1.sample_rate)
    return result if loudest <= 1.0 else _amplified(result, 1 / loudest)


@NODES.node("AudioAdjustVolume")
def adjust_volume(_context: NodeContext, audio: Audio, volume: int) -> Audio:
    """Louder or quieter by decibels."""
    return audio if volume == 0 else _amplified(audio, 10 ** (volume / 20))


@NODES.node("SaveAudio")
def save_audio(
    context: NodeContext,
    audio: Audio,
    filename_prefix: str = "ComfyUI",
    prompt: Json | None = None,
    extra_pnginfo: Json | None = None,
) -> Json:
    """Save as FLAC in the output folder."""
    return _save(context, audio, "output", filename_prefix, context.metadata(prompt, extra_pnginfo))


@NODES.node("PreviewAudio")
def preview_audio(
    context: NodeContext,
    audio: Audio,
    prompt: Json | None = None,
    extra_pnginfo: Json | None = None,
) -> Json:
    """Save as FLAC in the temp folder."""
    return _save(context, audio, "temp", "ComfyUI", context.metadata(prompt, extra_pnginfo))


def _save(
    context: NodeContext, audio: Audio, kind: str, prefix: str, metadata: dict[str, str]
) -> Json:
    path = context.save_path(kind, prefix)
    channels = [_sixteen_bits(channel) for channel in audio.channels]
    content = flac.encode(channels, audio.sample_rate, metadata)
    return {"ui": {"audio": [path.write(0, "flac", content)]}}


def _sixteen_bits(channel: Sequence[float]) -> array[int]:
    limit = int(_FULL_SCALE) - 1
    return array(
        "h", [max(-limit - 1, min(limit, round(sample * _FULL_SCALE))) for sample in channel]
    )


def _amplified(audio: Audio, factor: float) -> Audio:
    return audio.map(lambda channel: array("f", [sample * factor for sample in channel]))


def _stereo(audio: Audio) -> Audio:
    return Audio(_spread(audio, 2), audio.sample_rate)


def _spread(audio: Audio, channels: int) -> tuple[array[float], ...]:
    return audio.channels * channels if len(audio.channels) == 1 else audio.channels


def _zeros(length: int, samples: Sequence[float]) -> itertools.repeat[float]:
    return itertools.repeat(0.0, max(0, length - len(samples)))


def _require_same_rate(first: Audio, second: Audio) -> None:
    if first.sample_rate != second.sample_rate:
        raise ValueError(
            "local_comfyui does not resample: both sounds need the same sample rate, "
            f"not {first.sample_rate} and {second.sample_rate} Hz"
        )
