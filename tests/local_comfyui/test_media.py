from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import wave
from array import array
from collections.abc import Iterator

import pytest
from PIL import Image

from local_comfyui import av1, flac, mp4, webm
from tests.local_comfyui.workflows import empty_image, last_message, node
from tests.support.comfyui import REAL_COMFYUI, ComfyUI, running_comfyui


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    with running_comfyui(tmp_path_factory.mktemp("media"), always_local=True) as comfyui:
        yield comfyui


def frames(count: int) -> list[Image.Image]:
    gradient = Image.linear_gradient("L").resize((32, 24)).convert("RGB")
    return [gradient.rotate(20 * index) for index in range(count)]


@pytest.mark.parametrize("count", [1, 2, 9])
def test_every_frame_becomes_a_sample_that_an_av1_decoder_takes(count: int) -> None:
    video = av1.encode(frames(count), fps=8, quality=60)

    assert len(video.samples) == count
    assert 0 in video.keyframes
    assert video.samples[0][0] == 0x12  # a temporal delimiter begins each temporal unit
    assert video.configuration[0] == 0x81  # marker and version 1


def test_an_mp4_points_at_its_samples() -> None:
    video = av1.encode(frames(5), fps=8, quality=60)
    content = mp4.write(video, {"prompt": '{"1": {}}'})

    at = content.index(b"stco") + 12
    (offset,) = struct.unpack_from(">I", content, at)
    data = b"".join(video.samples)
    assert content[offset : offset + len(data)] == data
    assert content[4:12] == b"ftypisom"
    assert b'{"1": {}}' in content
    assert sizes_add_up(content)


def sizes_add_up(content: bytes) -> bool:
    """Whether the boxes of a file fill it exactly."""
    at = 0
    while at < len(content):
        at += struct.unpack_from(">I", content, at)[0]
    return at == len(content)


def test_a_webm_holds_its_samples_in_order() -> None:
    video = av1.encode(frames(5), fps=8, quality=60)
    content = webm.write(video, {"prompt": "{}"})

    places = [content.index(sample) for sample in video.samples]
    assert places == sorted(places)
    assert content.startswith(b"\x1a\x45\xdf\xa3")
    assert b"V_AV1" in content


def test_a_long_webm_is_cut_into_clusters() -> None:
    video = av1.Video((8, 8), 1.0, (b"sample",) * 90, frozenset([0]), b"\x81")

    assert webm.write(video, {}).count(bytes.fromhex("1f43b675")) == 3


def test_flac_frames_hold_the_samples() -> None:
    samples = array("h", [int(9000 * math.sin(index / 9)) for index in range(5000)])
    content = flac.encode([samples, samples], 44100, {"prompt": "{}"})

    swapped = array("h", samples[:4096])
    swapped.byteswap()
    interleaved = array("h", [value for value in samples for _ in range(2)])
    assert content.startswith(b"fLaC")
    assert content[26:42] == hashlib.md5(interleaved.tobytes()).digest()  # noqa: S324 - FLAC's own
    assert content.count(b"\x02" + swapped.tobytes()) == 2
    assert b"PROMPT={}" in content


def test_flac_checksums_are_those_of_the_format() -> None:
    table8, table16 = flac.CRC8, flac.CRC16

    # The check values of CRC-8/SMBUS and CRC-16/UMTS for "123456789".
    assert flac.checksum(b"123456789", table8, 8) == 0xF4
    assert flac.checksum(b"123456789", table16, 16) == 0xFEE8


def test_silence_is_saved_as_flac(server: ComfyUI) -> None:
    entry = server.run(
        {
            "1": node("EmptyAudio", duration=0.5, sample_rate=8000, channels=1),
            "2": node("SaveAudio", audio=["1", 0], filename_prefix="audio/silence"),
        }
    )
    file = entry["outputs"]["2"]["audio"][0]

    assert file == {"filename": "silence_00001_.flac", "subfolder": "audio", "type": "output"}
    assert server.get("/view", params=file).content.startswith(b"fLaC")


def test_a_wav_file_is_loaded_changed_and_previewed(server: ComfyUI) -> None:
    with wave.open(str(server.base / "input" / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(array("h", [1000, -1000] * 4000).tobytes())
    entry = server.run(
        {
            "1": node("LoadAudio", audio="tone.wav"),
            "2": node("TrimAudioDuration", audio=["1", 0], start_index=0.0, duration=0.25),
            "3": node("AudioAdjustVolume", audio=["2", 0], volume=-6),
            "4": node("AudioMerge", audio1=["3", 0], audio2=["2", 0], merge_method="mean"),
            "5": node("AudioConcat", audio1=["4", 0], audio2=["2", 0], direction="after"),
            "6": node("PreviewAudio", audio=["5", 0]),
        }
    )
    content = server.get("/view", params=entry["outputs"]["6"]["audio"][0]).content
    packed = int.from_bytes(content[18:26], "big")

    assert (packed >> 44, (packed >> 41 & 7) + 1, packed & 0xFFFFFFFFF) == (8000, 2, 4000)


def test_other_sound_formats_are_refused_with_a_sentence(server: ComfyUI) -> None:
    (server.base / "input" / "song.mp3").write_bytes(b"ID3")
    entry = server.run(
        {
            "1": node("LoadAudio", audio="song.mp3"),
            "2": node("PreviewAudio", audio=["1", 0]),
        }
    )

    assert last_message(entry) == "execution_error"
    message = entry["status"]["messages"][-1][1]["exception_message"]
    assert message.startswith("local_comfyui loads only WAV files, not song.mp3")


def test_animations_keep_their_frames_and_their_metadata(server: ComfyUI) -> None:
    prompt = {
        "1": empty_image(0xFF0000),
        "2": empty_image(0x0000FF),
        "3": node("ImageBatch", image1=["1", 0], image2=["2", 0]),
        "4": node("SaveAnimatedPNG", images=["3", 0], filename_prefix="a", fps=4, compress_level=4),
        "5": node(
            "SaveAnimatedWEBP",
            images=["3", 0],
            filename_prefix="b",
            fps=4,
            lossless=True,
            quality=80,
            method="fastest",
        ),
    }
    outputs = server.run(prompt)["outputs"]
    contents = {
        node_id: server.get("/view", params=outputs[node_id]["images"][0]).content
        for node_id in ("4", "5")
    }

    assert outputs["4"]["animated"] == outputs["5"]["animated"] == [True]
    for content in contents.values():
        with Image.open(io.BytesIO(content)) as picture:
            assert getattr(picture, "n_frames", 1) == 2
            picture.seek(1)
            assert picture.convert("RGB").getpixel((0, 0)) == (0, 0, 255)
    with Image.open(io.BytesIO(contents["5"])) as picture:
        assert str(picture.getexif()[0x0110]).startswith("prompt:{")
    assert b"comfprompt\0" in contents["4"]


@pytest.mark.parametrize(
    ("nodes", "suffix"),
    [
        (
            {
                "2": node("CreateVideo", images=["1", 0], fps=8),
                "3": node(
                    "SaveVideo", video=["2", 0], filename_prefix="v", format="auto", codec="auto"
                ),
            },
            ".mp4",
        ),
        (
            {
                "3": node(
                    "SaveWEBM", images=["1", 0], filename_prefix="v", codec="av1", fps=8, crf=32
                )
            },
            ".webm",
        ),
    ],
)
def test_a_video_is_saved_under_images_and_animated(
    server: ComfyUI, nodes: dict[str, dict[str, object]], suffix: str
) -> None:
    entry = server.run({"1": empty_image(7, size=32, batch_size=3), **nodes})
    output = entry["outputs"]["3"]

    assert output["animated"] == [True]
    assert output["images"][0]["filename"].endswith(suffix)


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


def test_a_latent_is_saved_as_safetensors(server: ComfyUI) -> None:
    entry = server.run(
        {
            "1": node("EmptyLatentImage", width=64, height=32, batch_size=2),
            "2": node("SaveLatent", samples=["1", 0], filename_prefix="latents/l"),
        }
    )
    content = server.get("/view", params=entry["outputs"]["2"]["latents"][0]).content
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])

    assert header["latent_tensor"]["shape"] == [2, 4, 4, 8]
    assert len(content) == 8 + length + 2 * 4 * 4 * 8 * 4


def test_texts_and_numbers_can_be_worked_with_and_shown(server: ComfyUI) -> None:
    prompt = {
        "a": node("PrimitiveString", value="Hello"),
        "b": node("PrimitiveInt", value="41"),
        "c": node("StringConcatenate", string_a=["a", 0], string_b="World", delimiter=", "),
        "d": node("RegexExtract", string=["c", 0], regex_pattern="w(or)", mode="First Group",
                  case_insensitive=True, multiline=False, dotall=False, group_index=1),
        "e": node("StringReplace", string=["c", 0], find="World", replace="you"),
        "f": node("StringLength", string=["e", 0]),
        **{f"show {name}": node("PreviewAny", source=[name, 0]) for name in "abcdef"},
    }  # fmt: skip
    outputs = server.run(prompt)["outputs"]

    shown = {name: outputs[f"show {name}"]["text"] for name in "abcdef"}
    assert shown == {
        "a": ["Hello"],
        "b": ["41"],
        "c": ["Hello, World"],
        "d": ["or"],
        "e": ["Hello, you"],
        "f": ["10"],
    }


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
