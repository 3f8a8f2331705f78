"""Requests that tests of `request.parse` send, and what comes of wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from worker_comfyui.errors import JobError
from worker_comfyui.request.parse import parse

WORKFLOW: dict[str, Any] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}, "_meta": {"title": "Load"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "out"}},
}
NODE = WORKFLOW["1"]
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
REQUEST: dict[str, Any] = {
    "id": "sync-1",
    "input": {
        "workflow": WORKFLOW,
        "images": [{"name": "photo.png", "image": f"data:image/png;base64,{PNG}"}],
        "files": [{"name": "sounds/voice.wav", "data": "https://example.com/voice.wav"}],
        "comfy_org_api_key": "comfyui-key-123456",
        "output": {"delivery": "s3", "format": "webp", "quality": 80, "metadata": False},
        "timeout_s": 90.5,
    },
    "s3Config": {
        "endpointUrl": "https://s3.example.com/",
        "accessId": "AKIAIOSFODNN7EXAMPLE",
        "accessSecret": "wJalrXUtnFEMI",
        "bucketName": "results",
    },
}


def error_of(sent: Any, **job: Any) -> JobError:
    with pytest.raises(JobError) as caught:
        parse({"id": "1", "input": sent, **job})
    return caught.value


def named(*names: Any) -> dict[str, Any]:
    return {"workflow": WORKFLOW, "files": [{"name": name, "data": "AAAA"} for name in names]}
