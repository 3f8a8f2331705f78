"""Frames of samplers become pictures that fit into a job's progress."""

from __future__ import annotations

import base64
import io
import os
import time

import pytest
from PIL import Image

from worker_comfyui.media.preview import MAX_BYTES, MAX_FRAME_BYTES, MAX_SIDE, Preview, preview


def frame(
    width: int, height: int, kind: str = "JPEG", *, mode: str = "RGB", noise: bool = False
) -> bytes:
    image = Image.new(mode, (width, height), 255)
    if noise:
        image = Image.frombytes(mode, (width, height), os.urandom(width * height * 3))
    to = io.BytesIO()
    image.save(to, kind, quality=95)
    return to.getvalue()


def opened(made: Preview | None) -> Image.Image:
    assert made is not None
    assert made["media_type"] == "image/jpeg"
    image = Image.open(io.BytesIO(base64.b64decode(made["data"])))
    image.load()
    assert image.format == "JPEG"
    assert image.size == (made["width"], made["height"])
    return image


def test_a_small_jpeg_goes_on_as_it_is() -> None:
    sent = frame(256, 144)
    made = preview(sent)
    assert opened(made).size == (256, 144)
    assert made is not None
    assert base64.b64decode(made["data"]) == sent


@pytest.mark.parametrize(
    ("size", "expected"), [((512, 512), (256, 256)), ((512, 288), (256, 144)), ((3, 900), (1, 256))]
)
def test_a_larger_one_is_made_smaller(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert opened(preview(frame(*size))).size == expected


def test_one_of_noise_is_made_worse_until_it_fits() -> None:
    made = preview(frame(512, 512, noise=True))
    assert max(opened(made).size) == MAX_SIDE
    assert made is not None
    assert len(base64.b64decode(made["data"])) <= MAX_BYTES


@pytest.mark.parametrize("head", [b"\0\0\0\1\0\0\0\5", b"\0\0\0\1\0\0\0\5\x0312" + bytes(13)])
def test_a_frame_of_a_moving_preview_is_one(head: bytes) -> None:
    sent = frame(128, 72)
    assert preview(head + sent) == preview(sent) is not None


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "LA", "I;16"])
def test_a_png_of_any_kind_becomes_a_jpeg(mode: str) -> None:
    assert opened(preview(frame(64, 32, "PNG", mode=mode))).size == (64, 32)


def scanned(times: int) -> bytes:
    """A JPEG of which a scan comes again and again: each costs a pass over the picture."""
    to = io.BytesIO()
    Image.new("L", (2000, 2000), 255).save(to, "JPEG", progressive=True)
    whole = to.getvalue()
    *parts, last = whole.split(b"\xff\xda")
    shortest = min(parts[1:], key=len)
    return b"\xff\xda".join([*parts, *[shortest] * times, last])


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"nonsense",
        b"\xff\xd8\xff",
        frame(512, 512, noise=True)[:2000],
        frame(300, 300, "PNG", noise=True)[:2000],
        frame(8, 8, "WEBP"),
        frame(5000, 5000),
        frame(2000, 2000, "PNG"),
        b"\xff\xd8\xff" + bytes(MAX_FRAME_BYTES),
        scanned(5000),
        # A PNG whose header speaks of many gigabytes.
        frame(8, 8, "PNG")[:16] + b"\x00\x0f\xff\xff" * 2 + frame(8, 8, "PNG")[24:],
    ],
    ids=range(11),
)
def test_what_cannot_be_read_quickly_is_dropped(odd: bytes) -> None:
    began = time.process_time()
    assert preview(odd) is None
    assert time.process_time() - began < 1


@pytest.mark.parametrize("slow", [frame(1800, 1800, noise=True), frame(1048, 1048, "PNG")])
def test_the_largest_frames_that_are_read_cost_little(slow: bytes) -> None:
    assert preview(slow) is not None
    began = time.process_time()
    preview(slow)
    assert time.process_time() - began < 0.3
