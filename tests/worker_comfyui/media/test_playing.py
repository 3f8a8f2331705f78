"""How long videos and sounds play is read from their headers, as their encoders wrote them."""

from __future__ import annotations

import struct
import time
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker_comfyui.media import containers
from worker_comfyui.media.playing import Playing, playing

ROOT = Path(__file__).resolve().parents[3]
RECORDED = sorted((ROOT / "test_resources" / "editor" / "embedded").iterdir())


def recorded(name: str) -> Path:
    return next(path for path in RECORDED if path.name == name)


def noise(stream: Any, seconds: float) -> Iterator[Any]:
    """Yield the packets of a stream of noise."""
    rate, layout = stream.rate, stream.layout.name
    values = np.random.default_rng(1).uniform(-0.5, 0.5, (stream.channels, int(rate * seconds)))
    frame = av.AudioFrame.from_ndarray(values.astype(np.float32), "fltp", layout)
    frame.sample_rate = rate
    resampler = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate)
    for one in [*resampler.resample(frame), None]:
        yield from stream.encode(one)


def sound(path: Path, codec: str, rate: int, layout: str, seconds: float) -> Path:
    """Write a sound."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, layout=layout)
        for packet in noise(stream, seconds):
            file.mux(packet)
    return path


def pictures(file: Any, codec: str, fps: Fraction, frames: int) -> Iterator[Any]:
    """Add a stream, and yield its packets: pictures of 64 by 48 pixels, each of another grey."""
    stream = file.add_stream(codec, rate=fps, pix_fmt="yuv420p", width=64, height=48)
    for number in range(frames):
        content = np.full((48, 64, 3), 5 * number, np.uint8)
        picture = av.VideoFrame.from_ndarray(content, "rgb24")
        picture.pts, picture.time_base = number, 1 / fps
        yield from stream.encode(picture)
    yield from stream.encode(None)


def silent(path: Path, codec: str, fps: int, frames: int) -> Path:
    """Write a few pictures."""
    with av.open(str(path), "w") as file:
        for packet in pictures(file, codec, Fraction(fps), frames):
            file.mux(packet)
    return path


def video(path: Path, codec: str, sound_codec: str, fps: Fraction) -> Path:
    """Write 48 pictures, with sound."""
    with av.open(str(path), "w") as file:
        shown = pictures(file, codec, fps, 48)
        first = next(shown)  # a file's streams are all there before its packets
        heard = file.add_stream(sound_codec, rate=48_000, layout="stereo")
        for packet in [first, *shown, *noise(heard, 48 / float(fps))]:
            file.mux(packet)
    return path


@pytest.mark.parametrize("name", ["comment.mp4", "faststart.mp4", "video.mkv", "video.webm"])
def test_a_video_of_comfyui_says_all(name: str) -> None:
    assert playing(recorded(name)) == Playing(0.25, 8.0, False, 32, 32)


@pytest.mark.parametrize("name", ["sound.flac", "sound.mp3", "sound.opus"])
def test_a_sound_of_comfyui_says_how_long_it_is(name: str) -> None:
    assert playing(recorded(name)) == Playing(0.1)


@pytest.mark.parametrize(
    ("name", "codec", "sound_codec"),
    [
        ("a.mp4", "h264", "aac"),
        ("a.mov", "h264", "aac"),
        ("a.webm", "vp9", "libopus"),
        ("a.mkv", "h264", "libopus"),
    ],
)
@pytest.mark.parametrize("fps", [Fraction(24), Fraction(30_000, 1001)])
def test_a_video_with_sound_says_so(
    tmp_path: Path, name: str, codec: str, sound_codec: str, fps: Fraction
) -> None:
    found = playing(video(tmp_path / name, codec, sound_codec, fps))
    assert found is not None
    assert (found.has_audio, found.width, found.height) == (True, 64, 48)
    assert found.fps == pytest.approx(float(fps), rel=0.001)
    assert found.seconds == pytest.approx(48 / float(fps), abs=0.06)


@pytest.mark.parametrize("fps", [8, 24, 25, 30])
@pytest.mark.parametrize("frames", [1, 2, 4, 5, 8])
@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_a_few_frames_have_their_rate(tmp_path: Path, codec: str, frames: int, fps: int) -> None:
    found = playing(silent(tmp_path / "a.mp4", codec, fps, frames))
    assert found is not None
    assert found.fps == pytest.approx(fps, rel=0.001)
    assert found.seconds == pytest.approx(frames / fps, abs=0.001)


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout"),
    [
        ("a.wav", "pcm_s16le", 44_100, "stereo"),
        ("a.wav", "pcm_f32le", 22_050, "mono"),
        ("a.mp3", "mp3", 44_100, "stereo"),
        ("a.mp3", "mp3", 22_050, "mono"),
        ("a.mp3", "mp3", 48_000, "mono"),
        ("a.flac", "flac", 96_000, "stereo"),
        ("a.opus", "libopus", 48_000, "mono"),
        ("a.m4a", "aac", 44_100, "stereo"),
    ],
)
def test_a_sound_of_any_kind_says_how_long_it_is(
    tmp_path: Path, name: str, codec: str, rate: int, layout: str
) -> None:
    found = playing(sound(tmp_path / name, codec, rate, layout, 1.5))
    assert found is not None
    assert found.seconds == pytest.approx(1.5, abs=0.03)
    assert (found.fps, found.has_audio) == (None, None)


def test_an_ogg_with_vorbis_counts_at_its_own_rate(tmp_path: Path) -> None:
    def page(position: int, packet: bytes) -> bytes:
        head = struct.pack("<4sBBQIIIB", b"OggS", 0, 0, position, 7, 0, 0, 1)
        return head + bytes([len(packet)]) + packet

    first = b"\x01vorbis" + struct.pack("<IBI", 0, 2, 44_100) + bytes(12)
    (tmp_path / "a.ogg").write_bytes(page(0, first) + page(66_150, b"sound"))
    assert playing(tmp_path / "a.ogg") == Playing(1.5)


def test_a_wav_that_was_written_as_a_stream_counts_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16_000))
    data = path.read_bytes()
    path.write_bytes(data[:40] + b"\xff\xff\xff\xff" + data[44:])
    assert playing(path) == Playing(1.0)


@pytest.mark.parametrize("data", [b"", b"fLaC", b"OggS", b"ID3", b"RIFF\0\0\0\0WAVE", b"<html>"])
def test_what_says_nothing_is_not_guessed(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "odd").write_bytes(data)
    assert playing(tmp_path / "odd") in {None, Playing()}


def test_a_header_of_nonsense_numbers_is_left_out(tmp_path: Path) -> None:
    data = bytearray(recorded("video.mp4").read_bytes())
    at = data.index(b"mvhd") + 4 + 12
    struct.pack_into(">II", data, at, 1, 0xFFFFFFFE)
    (tmp_path / "odd.mp4").write_bytes(data)
    found = playing(tmp_path / "odd.mp4")
    assert found is not None
    assert (found.seconds, found.fps) == (None, 8.0)


def test_a_file_of_too_many_parts_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(containers, "MAX_PARTS", 3)
    assert playing(recorded("video.mp4")) is None


def test_boxes_without_end_cost_little(tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    moov = struct.pack(">I4s", 8, b"free") * 1_000_000
    path.write_bytes(
        b"\0\0\0\x10ftypisom\0\0\0\0" + struct.pack(">I4s", 8 + len(moov), b"moov") + moov
    )
    began = time.process_time()
    assert playing(path) is None
    assert time.process_time() - began < 2


@given(
    path=st.sampled_from(RECORDED),
    changes=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=20),
    length=st.integers(0, 10_000),
)
@settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_damaged_files_raise_nothing(
    tmp_path: Path, path: Path, changes: list[tuple[int, int]], length: int
) -> None:
    data = bytearray(path.read_bytes()[:length])
    for at, value in changes:
        if at < len(data):
            data[at] = value
    (tmp_path / "odd").write_bytes(data)
    playing(tmp_path / "odd")
