"""Small workflows for tests, in ComfyUI's API format."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from PIL import Image

Workflow = dict[str, dict[str, Any]]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """One node."""
    return {"class_type": class_type, "inputs": inputs}


def empty_image(color: int = 0, *, size: int = 8) -> dict[str, Any]:
    """A node that makes one plain image; `color` is 0xRRGGBB."""
    return node("EmptyImage", width=size, height=size, batch_size=1, color=color)


def saved_image(color: int = 0, *, size: int = 8) -> Workflow:
    """A workflow that saves one plain image."""
    return {"1": empty_image(color, size=size), "2": node("SaveImage", images=["1", 0], **_named())}


def saved_input(name: str) -> Workflow:
    """A workflow that loads an input image and saves it."""
    return {"1": node("LoadImage", image=name), "2": node("SaveImage", images=["1", 0], **_named())}


def _named() -> dict[str, str]:
    return {"filename_prefix": "result"}


def reporting(ui: Any, files: dict[str, bytes] | None = None) -> Workflow:
    """A workflow whose only node writes `files` into the output folder and reports `ui`."""
    content = {name: base64.b64encode(data).decode() for name, data in (files or {}).items()}
    return {"1": node("TestOutput", ui=json.dumps(ui), files=json.dumps(content))}


def file_item(filename: str, subfolder: str = "", folder_type: str = "output") -> dict[str, str]:
    """What a node reports for one file."""
    return {"filename": filename, "subfolder": subfolder, "type": folder_type}


def png(color: tuple[int, int, int], *, size: int = 8) -> bytes:
    """A plain PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), color).save(buffer, "PNG")
    return buffer.getvalue()


def input_image(name: str, color: tuple[int, int, int]) -> dict[str, str]:
    """An entry of a request's `images`."""
    return {"name": name, "image": base64.b64encode(png(color)).decode()}


def color_of(file: dict[str, Any]) -> tuple[int, ...]:
    """The color of a plain image in a result's `images`."""
    with Image.open(io.BytesIO(base64.b64decode(file["data"]))) as image:
        pixel = image.convert("RGB").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel
