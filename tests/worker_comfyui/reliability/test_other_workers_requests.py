"""Requests that other workers take, as their clients send them, on a running ComfyUI."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

from tests.support.worker import WorkerUnderTest, worker_is_clean
from tests.support.workflows import color_of, saved_image, saved_input


def encoded(image_format: str = "PNG", missing: int = 0) -> str:
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), (0, 0, 255)).save(stream, image_format)
    data = stream.getvalue()
    return base64.b64encode(data[: len(data) - missing]).decode()


PNG = encoded()


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("a.png", [{"name": "a.png", "image": f"image/png;base64,{PNG}"}]),
        ("a.png", [{"name": "a.png", "image": f"base64,{PNG}"}]),
        ("a.png", [{"name": "a.png", "url": f"data:image/png;base64,{PNG}"}]),
        ("./x.png", [{"name": "./x.png", "image": PNG}]),
        ("a.png", [{"name": "a.png", "image": PNG}, {"name": "./a.png", "image": f"{PNG}\n"}]),
    ],
)
def test_an_image_is_taken_as_clients_send_it(
    worker: WorkerUnderTest, name: str, entries: list[dict[str, str]]
) -> None:
    result = worker.run({"workflow": saved_input(name), "images": entries})
    assert color_of(result["images"][0]) == (0, 0, 255)
    assert "errors" not in result
    assert worker_is_clean(worker)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_an_image_without_its_last_bytes_is_loaded_with_a_warning(
    worker: WorkerUnderTest, image_format: str
) -> None:
    image = encoded(image_format, missing=2)
    result = worker.run(
        {"workflow": saved_input("p.jpg"), "images": [{"name": "p.jpg", "image": image}]}
    )
    red, green, blue = color_of(result["images"][0])
    assert blue - max(red, green) > 240
    (warning,) = result["errors"]
    assert warning.startswith("images[0].image (p.jpg): the image is cut off")


@pytest.mark.parametrize(
    "more", [{"timeout": 300}, {"image": "x"}, {"file": []}, {"outputs": {}}, {"api_key": "k"}]
)
def test_a_field_that_is_unknown_fails_no_job(
    worker: WorkerUnderTest, more: dict[str, Any]
) -> None:
    result = worker.run({"workflow": saved_image(0x0000FF), **more})
    assert color_of(result["images"][0]) == (0, 0, 255)
    assert len(result.get("errors", [])) <= 1


def test_a_url_that_cannot_be_loaded_is_named_with_the_field_that_was_sent(
    worker: WorkerUnderTest,
) -> None:
    sent = [{"name": "a.png", "url": "http://127.0.0.1/x.png"}]
    result = worker.run({"workflow": saved_input("a.png"), "images": sent})
    assert result["details"][0]["path"] == "images[0].url"
    assert "ALLOW_PRIVATE_INPUT_URLS=true" in result["error"]
