from __future__ import annotations

import io
import json
import struct
import uuid
import wave
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from tests.local_comfyui.workflows import connect, empty_image, last_message, node
from tests.support.comfyui import REAL_COMFYUI, ComfyUI, running_comfyui


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    with running_comfyui(tmp_path_factory.mktemp("media"), always_local=True) as comfyui:
        yield comfyui


@pytest.fixture(scope="module")
def tone(server: ComfyUI) -> str:
    """Half a second of a square wave in the input folder."""
    with wave.open(str(server.base / "input" / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(array("h", [8000] * 10 + [-8000] * 10).tobytes() * 200)
    return "tone.wav"


def saved(server: ComfyUI, entry: dict[str, Any], node_id: str) -> bytes:
    """The first file of a node."""
    output = entry["outputs"][node_id]
    (file, *_) = output.get("images") or output["audio"]
    return server.get("/view", params=file).content


def streams(content: bytes) -> dict[str, tuple[str, float]]:
    """Each stream's codec and its length in seconds, by the stream's type."""
    found: dict[str, tuple[str, float]] = {}
    for kind in ("video", "audio"):
        with av.open(io.BytesIO(content), "r") as container:
            for stream in container.streams.get({kind: 0}) if has(container, kind) else ():
                end = max(_end(frame) for frame in container.decode(stream))
                found[kind] = (stream.codec_context.name, round(end, 1))
    return found


def has(container: av.container.InputContainer, kind: str) -> bool:
    return any(stream.type == kind for stream in container.streams)


def _end(frame: Any) -> float:
    return float((frame.time or 0) + frame.duration * frame.time_base)


def metadata(content: bytes) -> dict[str, str]:
    """A file's own texts and those of its sound, by their names in lower case."""
    with av.open(io.BytesIO(content), "r") as container:
        texts = dict(container.metadata)
        for stream in container.streams.audio:
            texts |= stream.metadata
        return {name.lower(): text for name, text in texts.items()}


@pytest.mark.parametrize(
    ("saver", "quality", "codec"),
    [
        ("SaveAudio", {}, "flac"),
        ("SaveAudioMP3", {"quality": "V0"}, "mp3float"),
        ("SaveAudioMP3", {"quality": "128k"}, "mp3float"),
        ("SaveAudioOpus", {"quality": "96k"}, "opus"),
        ("PreviewAudio", {}, "flac"),
    ],
)
def test_sound_is_saved_in_each_format_with_its_prompt(
    server: ComfyUI, tone: str, saver: str, quality: dict[str, str], codec: str
) -> None:
    prefix = {} if saver == "PreviewAudio" else {"filename_prefix": f"audio/{codec}"}
    prompt = {
        "1": node("LoadAudio", audio=tone),
        "2": node(saver, audio=["1", 0], **prefix, **quality),
    }
    entry = server.run(prompt)
    content = saved(server, entry, "2")

    name, seconds = streams(content)["audio"]
    assert name in (codec, f"lib{codec}")
    assert seconds == pytest.approx(0.5, abs=0.1)
    assert json.loads(metadata(content)["prompt"]) == prompt
    assert entry["outputs"]["2"]["audio"][0]["type"] == ("output" if prefix else "temp")


def test_flac_holds_the_very_samples(server: ComfyUI, tone: str) -> None:
    prompt = {
        "1": node("LoadAudio", audio=tone),
        "2": node("SaveAudio", audio=["1", 0], filename_prefix="exact"),
    }
    content = saved(server, server.run(prompt), "2")

    with av.open(io.BytesIO(content), "r") as container:
        frame = next(container.decode(audio=0))
    assert frame.to_ndarray()[0, :20].tolist() == pytest.approx([8000] * 10 + [-8000] * 10, abs=1)


def test_silence_has_its_length_and_channels(server: ComfyUI) -> None:
    entry = server.run(
        {
            "1": node("EmptyAudio", duration=0.5, sample_rate=8000, channels=2),
            "2": node("SaveAudio", audio=["1", 0], filename_prefix="audio/silence"),
        }
    )
    content = saved(server, entry, "2")

    assert entry["outputs"]["2"]["audio"] == [
        {"filename": "silence_00001_.flac", "subfolder": "audio", "type": "output"}
    ]
    packed = int.from_bytes(content[18:26], "big")
    assert (packed >> 44, (packed >> 41 & 7) + 1, packed & 0xFFFFFFFFF) == (8000, 2, 4000)


def test_a_file_without_sound_fails_with_a_sentence(server: ComfyUI) -> None:
    write_video(server.base / "input" / "mute.mp4")
    entry = server.run(
        {"1": node("LoadAudio", audio="mute.mp4"), "2": node("PreviewAudio", audio=["1", 0])}
    )

    assert last_message(entry) == "execution_error"
    message = entry["status"]["messages"][-1][1]["exception_message"]
    assert message == "No audio stream found in the file.\n"


def write_video(path: Path, codec: str = "libx264") -> None:
    """Eight frames of 32 by 24 pixels at eight frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for index in range(8):
            shades = np.full((24, 32, 3), 30 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(shades, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def video(server: ComfyUI, tone: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A prompt that makes a video with sound, and its history entry."""
    prompt = {
        "1": empty_image(0xFF0000, size=32, batch_size=3),
        "2": node("LoadAudio", audio=tone),
        "3": node("CreateVideo", images=["1", 0], fps=8, audio=["2", 0]),
        "4": node("SaveVideo", video=["3", 0], filename_prefix="v", format="auto", codec="auto"),
    }
    return prompt, server.run(prompt)


def test_a_video_is_h264_with_sound_as_long_as_its_pictures(server: ComfyUI, tone: str) -> None:
    prompt, entry = video(server, tone)
    content = saved(server, entry, "4")

    assert entry["outputs"]["4"]["animated"] == [True]
    assert entry["outputs"]["4"]["images"][0]["filename"].endswith(".mp4")
    assert streams(content) == {
        "video": ("h264", 0.4),
        "audio": ("aac", pytest.approx(0.4, abs=0.15)),
    }
    assert json.loads(metadata(content)["prompt"])["3"] == prompt["3"]
    with av.open(io.BytesIO(content), "r") as container:
        red, green, blue = next(container.decode(video=0)).to_ndarray(format="rgb24")[9, 9]
    assert red > 240
    assert max(green, blue) < 20


@pytest.mark.parametrize(("codec", "names"), [("vp9", ("vp9",)), ("av1", ("libdav1d", "av1"))])
def test_a_webm_is_vp9_or_av1(server: ComfyUI, codec: str, names: tuple[str, ...]) -> None:
    inputs = {"images": ["1", 0], "filename_prefix": "v", "codec": codec, "fps": 8, "crf": 32}
    prompt = {"1": empty_image(7, size=64, batch_size=3), "2": node("SaveWEBM", **inputs)}
    entry = server.run(prompt)
    content = saved(server, entry, "2")

    name, seconds = streams(content)["video"]
    assert (name in names, seconds) == (True, 0.4)
    assert entry["outputs"]["2"]["animated"] == [True]
    assert "prompt" in metadata(content)


def test_a_loaded_video_is_copied_or_taken_apart(server: ComfyUI, tone: str) -> None:
    _, made = video(server, tone)
    (server.base / "input" / "clip.mp4").write_bytes(saved(server, made, "4"))
    entry = server.run(
        {
            "1": node("LoadVideo", file="clip.mp4"),
            "2": node("SaveVideo", video=["1", 0], filename_prefix="c", format="mp4", codec="h264"),
            "3": node("GetVideoComponents", video=["1", 0]),
            "4": node("SaveImage", images=["3", 0], filename_prefix="frame"),
            "5": node("PreviewAudio", audio=["3", 1]),
            "6": node("PreviewAny", source=["3", 2]),
        }
    )

    assert streams(saved(server, entry, "2")) == streams(saved(server, made, "4"))
    assert len(entry["outputs"]["4"]["images"]) == 3
    assert streams(saved(server, entry, "5"))["audio"][0] == "flac"
    assert entry["outputs"]["6"]["text"] == ["8.0"]


def test_a_loaded_video_of_another_codec_is_encoded_anew(server: ComfyUI) -> None:
    write_video(server.base / "input" / "clip.webm", "libvpx-vp9")
    entry = server.run(
        {
            "1": node("LoadVideo", file="clip.webm"),
            "2": node("SaveVideo", video=["1", 0], filename_prefix="c", format="mp4", codec="h264"),
        }
    )

    assert streams(saved(server, entry, "2")) == {"video": ("h264", 1.0)}


@pytest.mark.parametrize(
    ("loader", "name", "noun"),
    [
        ("LoadVideo", "file", "video"),
        ("LoadAudio", "audio", "audio"),
        ("LoadImage", "image", "image"),
    ],
)
def test_a_file_that_is_not_there_is_refused_as_by_comfyui(
    server: ComfyUI, loader: str, name: str, noun: str
) -> None:
    loading = node(loader, **{name: "no.bin"}, channel="red")
    prompt = {"1": loading, "2": node("PreviewAny", source=["1", 0])}
    errors = server.post("/prompt", json={"prompt": prompt}).json()["node_errors"]["1"]["errors"]

    assert [error["details"] for error in errors] == [f"{name} - Invalid {noun} file: no.bin"]


def test_loaders_offer_the_files_that_they_can_load(server: ComfyUI, tone: str) -> None:
    for name in ("offered.png", "offered.mp4", "offered.txt"):
        (server.base / "input" / name).touch()
    info = server.get("/object_info").json()

    video_files = info["LoadVideo"]["input"]["required"]["file"][1]["options"]
    audio_files = info["LoadAudio"]["input"]["required"]["audio"][0]
    image_files = info["LoadImage"]["input"]["required"]["image"][0]
    assert "offered.mp4" in video_files
    assert {"offered.mp4", tone} <= set(audio_files)
    assert {"offered.png"} == set(image_files)
    assert "offered.txt" not in (*video_files, *audio_files)


@pytest.mark.skipif(bool(REAL_COMFYUI), reason="ComfyUI's own choices change between its versions")
@pytest.mark.parametrize(
    ("choice", "reason"), [({"format": "avi"}, "'avi'"), ({"codec": "xyz"}, "H264")]
)
def test_a_video_of_no_known_kind_fails_in_its_node(
    server: ComfyUI, choice: dict[str, str], reason: str
) -> None:
    """ComfyUI 0.3.64 does not validate choices of this shape."""
    inputs = {"video": ["2", 0], "filename_prefix": "v", "format": "mp4", "codec": "auto", **choice}
    prompt = {
        "1": empty_image(7, size=32),
        "2": node("CreateVideo", images=["1", 0], fps=8),
        "3": node("SaveVideo", **inputs),
    }
    kind, data = server.run(prompt)["status"]["messages"][-1]
    assert (kind, data["node_id"], data["exception_type"]) == ("execution_error", "3", "ValueError")
    assert reason in data["exception_message"]


def test_animations_keep_their_frames_and_their_metadata(server: ComfyUI) -> None:
    webp = {"lossless": True, "quality": 80, "method": "fastest"}
    prompt = {
        "1": empty_image(0xFF0000),
        "2": empty_image(0x0000FF),
        "3": node("ImageBatch", image1=["1", 0], image2=["2", 0]),
        "4": node("SaveAnimatedPNG", images=["3", 0], filename_prefix="a", fps=4, compress_level=4),
        "5": node("SaveAnimatedWEBP", images=["3", 0], filename_prefix="b", fps=4, **webp),
    }
    entry = server.run(prompt)
    contents = [saved(server, entry, node_id) for node_id in ("4", "5")]

    for node_id, content in zip(("4", "5"), contents, strict=True):
        assert entry["outputs"][node_id]["animated"] == [True]
        with Image.open(io.BytesIO(content)) as picture:
            assert getattr(picture, "n_frames", 1) == 2
            picture.seek(1)
            assert picture.convert("RGB").getpixel((0, 0)) == (0, 0, 255)
    with Image.open(io.BytesIO(contents[1])) as picture:
        assert str(picture.getexif()[0x0110]).startswith("prompt:{")
    assert b"comfprompt\0" in contents[0]


def test_images_can_be_sent_through_the_websocket(server: ComfyUI) -> None:
    client_id = str(uuid.uuid4())
    socket = connect(server, client_id)
    prompt = {
        "1": empty_image(0x00FF00, size=16, batch_size=2),
        "2": node("SaveImageWebsocket", images=["1", 0]),
    }
    entries = [server.wait(server.submit(prompt, client_id=client_id)) for _ in range(2)]
    frames: list[bytes] = []
    while len(frames) < 4:  # it runs again each time
        data = socket.recv()
        frames += [data] if isinstance(data, bytes) else []
    socket.close()

    assert [entry["outputs"] for entry in entries] == [{}, {}]
    assert {struct.unpack(">II", frame[:8]) for frame in frames} == {(1, 2)}
    with Image.open(io.BytesIO(frames[0][8:])) as picture:
        assert (picture.format, picture.size) == ("PNG", (16, 16))
        assert picture.getpixel((3, 3)) == (0, 255, 0)


@pytest.mark.parametrize(
    ("class_type", "value", "text"),
    [
        ("PrimitiveString", "Hello", "Hello"),
        ("PrimitiveStringMultiline", "a\nb", "a\nb"),
        ("PrimitiveInt", "41", "41"),
        ("PrimitiveFloat", 1, "1.0"),
        ("PrimitiveBoolean", 1, "True"),
    ],
)
def test_plain_values_are_handed_on_and_shown(
    server: ComfyUI, class_type: str, value: object, text: str
) -> None:
    prompt = {"1": node(class_type, value=value), "2": node("PreviewAny", source=["1", 0])}

    assert server.run(prompt)["outputs"]["2"]["text"] == [text]


def test_a_model_that_is_there_is_still_not_run(server: ComfyUI) -> None:
    folder = server.base / "models" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").touch()
    entry = server.run(
        {
            "1": node("CheckpointLoaderSimple", ckpt_name="model.safetensors"),
            "2": node("EmptyLatentImage", width=64, height=64, batch_size=1),
            "3": node("VAEDecode", samples=["2", 0], vae=["1", 2]),
            "4": node("PreviewImage", images=["3", 0]),
        }
    )

    message = entry["status"]["messages"][-1][1]["exception_message"]
    assert "runs no models" in message
    assert server.get("/models/checkpoints").json() == ["model.safetensors"]
