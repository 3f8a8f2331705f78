from __future__ import annotations

import io
import json
import struct
import wave
from array import array
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from tests.local_comfyui.workflows import Prompt, connect, empty_image, node, save
from tests.support.comfyui import ComfyUI


@pytest.fixture(scope="module")
def server(stand_in: ComfyUI) -> ComfyUI:
    """The stand-in with a sound of half a second, two films without sound, and a model's name."""
    folder = stand_in.base / "models" / "checkpoints"
    folder.mkdir()
    (folder / "model.safetensors").touch()
    folder = stand_in.base / "input"
    with wave.open(str(folder / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(array("h", [8000] * 10 + [-8000] * 10).tobytes() * 200)
    write_video(folder / "mute.mp4", "libx264")
    write_video(folder / "clip.webm", "libvpx-vp9")
    return stand_in


def write_video(path: Path, codec: str) -> None:
    """Eight frames of 32 by 24 pixels at eight frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for index in range(8):
            shades = np.full((24, 32, 3), 30 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shades, format="rgb24")))
        container.mux(stream.encode(None))


def saved(server: ComfyUI, entry: dict[str, Any], node_id: str) -> bytes:
    """The first file of a node."""
    output = entry["outputs"][node_id]
    (file, *_) = output.get("images") or output["audio"]
    return server.get("/view", params=file).content


def streams(content: bytes) -> tuple[list[str], float]:
    """The codec of each stream, and how many seconds they last."""
    with av.open(io.BytesIO(content), "r") as container:
        codecs = [stream.codec_context.name for stream in container.streams]
        return codecs, round((container.duration or 0) / 1_000_000, 1)


def metadata(content: bytes) -> dict[str, str]:
    """A file's own texts and those of its sound, by their names in lower case."""
    with av.open(io.BytesIO(content), "r") as container:
        texts = dict(container.metadata)
        for stream in container.streams.audio:
            texts |= stream.metadata
        return {name.lower(): text for name, text in texts.items()}


def sound(saver: str, **inputs: str) -> Prompt:
    return {"1": node("LoadAudio", audio="tone.wav"), "2": node(saver, audio=["1", 0], **inputs)}


@pytest.mark.parametrize(
    ("saver", "inputs", "codec"),
    [
        ("SaveAudio", {}, "flac"),
        ("SaveAudioMP3", {"quality": "V0"}, "mp3float"),
        ("SaveAudioMP3", {"quality": "128k"}, "mp3float"),
        ("SaveAudioOpus", {"quality": "96k"}, "opus"),
        ("PreviewAudio", None, "flac"),
    ],
)
def test_sound_is_saved_in_each_format_with_its_prompt(
    server: ComfyUI, saver: str, inputs: dict[str, str] | None, codec: str
) -> None:
    prompt = sound(saver, **({} if inputs is None else {"filename_prefix": "audio/x", **inputs}))
    entry = server.run(prompt)
    content = saved(server, entry, "2")

    (name,), seconds = streams(content)
    assert name in (codec, f"lib{codec}")
    assert seconds == pytest.approx(0.5, abs=0.1)
    assert json.loads(metadata(content)["prompt"]) == prompt
    assert entry["outputs"]["2"]["audio"][0]["type"] == ("temp" if inputs is None else "output")


def test_flac_holds_the_very_samples(server: ComfyUI) -> None:
    content = saved(server, server.run(sound("SaveAudio", filename_prefix="exact")), "2")

    with av.open(io.BytesIO(content), "r") as container:
        frame = next(container.decode(audio=0))
    assert frame.to_ndarray()[0, :20].tolist() == pytest.approx([8000] * 10 + [-8000] * 10, abs=1)


def test_silence_has_its_length_and_channels(server: ComfyUI) -> None:
    silence = node("EmptyAudio", duration=0.5, sample_rate=8000, channels=2)
    entry = server.run({**sound("SaveAudio", filename_prefix="silence"), "1": silence})

    packed = int.from_bytes(saved(server, entry, "2")[18:26], "big")  # of STREAMINFO
    assert (packed >> 44, (packed >> 41 & 7) + 1, packed & 0xFFFFFFFFF) == (8000, 2, 4000)


def shown(source: dict[str, Any]) -> Prompt:
    return {"1": source, "2": node("PreviewAny", source=["1", 0])}


def filmed(**choice: str) -> Prompt:
    inputs = {"filename_prefix": "v", "format": "mp4", "codec": "auto", **choice}
    return {
        "1": node("LoadVideo", file="mute.mp4"),
        "2": node("SaveVideo", video=["1", 0], **inputs),
    }


DECODED = {
    **shown(node("VAEDecode", samples=["3", 0], vae=["4", 2])),
    "3": node("EmptyLatentImage", width=64, height=64, batch_size=1),
    "4": node("CheckpointLoaderSimple", ckpt_name="model.safetensors"),
}


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (shown(node("LoadAudio", audio="mute.mp4")), "No audio stream found in the file.\n"),
        # ComfyUI 0.3.64 does not validate choices of this shape.
        (filmed(format="avi"), "'avi' is not a valid"),
        (filmed(codec="xyz"), "Only H264"),
        (DECODED, "local_comfyui runs no models"),
    ],
)
def test_what_cannot_be_done_fails_with_a_sentence(
    server: ComfyUI, prompt: Prompt, reason: str
) -> None:
    kind, data = server.run(prompt)["status"]["messages"][-1]

    assert kind == "execution_error"
    assert data["exception_message"].startswith(reason)


@pytest.fixture(scope="module")
def film(server: ComfyUI) -> bytes:
    """A video of three red pictures, with a much longer sound."""
    prompt = {
        "1": empty_image(0xFF0000, size=32, batch_size=3),
        "2": node("EmptyAudio", duration=9, sample_rate=8000, channels=1),
        "3": node("CreateVideo", images=["1", 0], fps=8, audio=["2", 0]),
        "4": node("SaveVideo", video=["3", 0], filename_prefix="v", format="auto", codec="auto"),
    }
    content = saved(server, server.run(prompt), "4")
    assert json.loads(metadata(content)["prompt"])["3"] == prompt["3"]
    return content


def test_a_video_is_h264_with_sound_as_long_as_its_pictures(film: bytes) -> None:
    codecs, seconds = streams(film)
    assert (sorted(codecs), seconds < 1) == (["aac", "h264"], True)
    with av.open(io.BytesIO(film), "r") as container:
        red, green, blue = next(container.decode(video=0)).to_ndarray(format="rgb24")[9, 9]
    assert red > 240
    assert max(green, blue) < 20


@pytest.mark.parametrize(("codec", "names"), [("vp9", ("vp9",)), ("av1", ("libdav1d", "av1"))])
def test_a_webm_is_vp9_or_av1(server: ComfyUI, codec: str, names: tuple[str, ...]) -> None:
    inputs = {"images": ["1", 0], "filename_prefix": "v", "codec": codec, "fps": 8, "crf": 32}
    prompt = {"1": empty_image(7, size=64, batch_size=3), "2": node("SaveWEBM", **inputs)}
    entry = server.run(prompt)
    content = saved(server, entry, "2")

    (name,), seconds = streams(content)
    assert (name in names, seconds) == (True, 0.4)
    assert entry["outputs"]["2"]["animated"] == [True]
    assert "prompt" in metadata(content)


def test_a_loaded_video_is_copied_or_taken_apart_or_encoded_anew(
    server: ComfyUI, film: bytes
) -> None:
    (server.base / "input" / "clip.mp4").write_bytes(film)
    mp4 = {"filename_prefix": "c", "format": "mp4", "codec": "h264"}
    entry = server.run(
        {
            "1": node("LoadVideo", file="clip.mp4"),
            "2": node("SaveVideo", video=["1", 0], **mp4),
            "3": node("GetVideoComponents", video=["1", 0]),
            "4": save("3", "frame"),
            "5": node("PreviewAudio", audio=["3", 1]),
            "6": node("PreviewAny", source=["3", 2]),
            "7": node("LoadVideo", file="clip.webm"),
            "8": node("SaveVideo", video=["7", 0], **mp4),
        }
    )

    assert streams(saved(server, entry, "2")) == streams(film)
    assert len(entry["outputs"]["4"]["images"]) == 3
    assert streams(saved(server, entry, "5"))[0] == ["flac"]
    assert entry["outputs"]["6"]["text"] == ["8.0"]
    assert streams(saved(server, entry, "8")) == (["h264"], 1.0)


def test_loaders_offer_the_files_that_they_can_load_and_refuse_others(server: ComfyUI) -> None:
    for name in ("offered.png", "offered.mp4", "offered.txt"):
        (server.base / "input" / name).touch()
    info = server.get("/object_info").json()

    videos = info["LoadVideo"]["input"]["required"]["file"][1]["options"]
    sounds = info["LoadAudio"]["input"]["required"]["audio"][0]
    models = info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0]
    assert "offered.mp4" in videos
    assert {"offered.mp4", "tone.wav"} <= set(sounds)
    assert info["LoadImage"]["input"]["required"]["image"][0] == ["offered.png"]
    assert "offered.txt" not in (*videos, *sounds)
    assert models == server.get("/models/checkpoints").json() == ["model.safetensors"]
    for loader, name, noun in (("LoadVideo", "file", "video"), ("LoadAudio", "audio", "audio")):
        prompt = {"1": node(loader, **{name: "no"}), "2": node("PreviewAny", source=["1", 0])}
        answer = server.post("/prompt", json={"prompt": prompt}).json()
        (error,) = answer["node_errors"]["1"]["errors"]
        assert error["details"] == f"{name} - Invalid {noun} file: no"


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
    png, webp_file = [saved(server, entry, node_id) for node_id in ("4", "5")]

    for content in (png, webp_file):
        with Image.open(io.BytesIO(content)) as picture:
            assert getattr(picture, "n_frames", 1) == 2
            picture.seek(1)
            assert picture.convert("RGB").getpixel((0, 0)) == (0, 0, 255)
    assert b"comfprompt\0" in png
    with Image.open(io.BytesIO(webp_file)) as picture:
        assert str(picture.getexif()[0x0110]).startswith("prompt:{")


def test_images_can_be_sent_through_the_websocket(server: ComfyUI) -> None:
    prompt = {
        "1": empty_image(0x00FF00, size=16, batch_size=2),
        "2": node("SaveImageWebsocket", images=["1", 0]),
    }
    frames: list[bytes] = []
    with connect(server, "pictures") as socket:
        for _ in range(2):
            assert server.run(prompt, client_id="pictures")["outputs"] == {}
        while len(frames) < 4:  # it runs again each time
            data = socket.recv()
            frames += [data] if isinstance(data, bytes) else []

    assert {struct.unpack(">II", frame[:8]) for frame in frames} == {(1, 2)}
    with Image.open(io.BytesIO(frames[0][8:])) as picture:
        assert (picture.format, picture.size) == ("PNG", (16, 16))
        assert picture.getpixel((3, 3)) == (0, 255, 0)


def test_plain_values_are_handed_on_and_shown(server: ComfyUI) -> None:
    values = {
        "PrimitiveString": ("Hello", "Hello"),
        "PrimitiveStringMultiline": ("a\nb", "a\nb"),
        "PrimitiveInt": ("41", "41"),
        "PrimitiveFloat": (1, "1.0"),
        "PrimitiveBoolean": (1, "True"),
    }
    prompt = {name: node(name, value=value) for name, (value, _) in values.items()}
    prompt |= {f"show {name}": node("PreviewAny", source=[name, 0]) for name in values}
    outputs = server.run(prompt)["outputs"]

    assert {name: outputs[f"show {name}"]["text"] for name in values} == {
        name: [text] for name, (_, text) in values.items()
    }
