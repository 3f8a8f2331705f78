"""Workflows for the end-to-end tests, and a look into their results."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

Workflow = dict[str, dict[str, Any]]


def solid_colour(colour: int, seconds: float = 0) -> Workflow:
    """A picture of one colour, after some seconds."""
    workflow: Workflow = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": colour},
        },
        "3": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "colour"},
        },
    }
    if seconds:
        workflow["2"] = {"class_type": "TestSleep", "inputs": {"seconds": seconds, "any": ["1", 0]}}
        workflow["3"]["inputs"]["images"] = ["2", 0]
    return workflow


def request(workflow: Workflow, **fields: Any) -> dict[str, Any]:
    """A job's input."""
    return {"workflow": workflow, **fields}


def pictures(job: dict[str, Any]) -> list[Image.Image]:
    """The decoded images of a completed job."""
    assert job["status"] == "COMPLETED", job
    images = job["output"]["images"]
    assert all(image["type"] == "base64" for image in images)
    return [Image.open(io.BytesIO(base64.b64decode(image["data"]))) for image in images]


def colour_of(job: dict[str, Any]) -> int:
    """The colour of a job's only picture, as `EmptyImage` takes it."""
    (picture,) = pictures(job)
    pixels = picture.convert("RGB").tobytes()
    assert pixels == pixels[:3] * (len(pixels) // 3), "more than one colour"
    return int.from_bytes(pixels[:3])
