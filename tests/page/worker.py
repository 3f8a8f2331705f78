"""A worker on the real SDK that keeps the worker's contract with the page, without a ComfyUI.

The prompt decides: `slow` takes long, `fail` fails at node 3, anything else makes a picture, a
sound and a text.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import wave
from typing import Any

from PIL import Image

os.environ.setdefault("RUNPOD_LOG_LEVEL", "INFO")

import runpod
from runpod.http_client import AsyncClientSession
from runpod.serverless.modules.rp_http import send_result

PROMPT = {
    "node_id": "6",
    "class_type": "CLIPTextEncode",
    "title": "Prompt",
    "input": "text",
    "type": "STRING",
    "value": "a lighthouse at dusk",
    "multiline": True,
}
SAMPLER = {"node_id": "3", "class_type": "KSampler", "title": "Sampler"}
SEED = {"input": "seed", "type": "INT", "value": 2**63 + 1, "min": 0, "max": 2**64 - 1}
STEPS = {"input": "steps", "type": "INT", "value": 20, "min": 1, "max": 100}
CHOICE = {
    "input": "sampler_name",
    "type": "COMBO",
    "value": "euler",
    "choices": ["euler", "dpmpp_2m", "uni_pc"],
}
SIZE = {"node_id": "5", "class_type": "EmptyLatentImage", "title": "Size", "type": "INT"}
WIDTH = {"input": "width", "value": 512, "min": 16, "max": 4096, "step": 8}
PHOTO = {
    "node_id": "9",
    "class_type": "LoadImage",
    "title": "Photo",
    "input": "image",
    "type": "COMBO",
    "value": "photo.png",
    "choices": ["photo.png"],
    "upload": "image",
}
DRY_RUN: dict[str, Any] = {
    "status": "dry_run",
    "workflow": {"6": {"class_type": "CLIPTextEncode", "inputs": {"text": PROMPT["value"]}}},
    "inputs": [
        PROMPT,
        {**SAMPLER, **SEED},
        {**SAMPLER, **STEPS},
        {**SAMPLER, **CHOICE},
        {**SIZE, **WIDTH},
        PHOTO,
    ],
    "problems": [],
    "models": [{"name": "sd15.safetensors", "status": "will be downloaded"}],
}


async def handler(job: dict[str, Any]) -> dict[str, Any]:
    """Do what the prompt says."""
    sent = job["input"]
    if sent.get("workflow") == "unknown":
        return {
            "error": "INVALID_WORKFLOW: no workflow is stored under `unknown`",
            "error_code": "INVALID_WORKFLOW",
            "retryable": False,
            "details": [{"path": "workflow", "message": "the stored ones are: sunset"}],
        }
    if sent.get("dry_run"):
        return dict(DRY_RUN)
    prompt = str(sent.get("overrides", {}).get("6.text", ""))
    if "fail twice" in prompt:
        return {**FAILURE, "details": [*FAILURE["details"], MISSING]}
    if "fail" in prompt:
        return dict(FAILURE)  # the SDK takes `error` out of it
    await _work(job, 100 if "slow" in prompt else 6)
    return _result(sent)


FAILURE: dict[str, Any] = {
    "error": "PROMPT_REJECTED: node 3 (KSampler), input `steps`: is 20, but takes at most 10",
    "error_code": "PROMPT_REJECTED",
    "retryable": False,
    "details": [
        {
            "node_id": "3",
            "class_type": "KSampler",
            "input": "steps",
            "message": "is 20, but takes at most 10",
        }
    ],
}
MISSING = {
    "node_id": "9",
    "class_type": "LoadImage",
    "input": "image",
    "message": "photo.png was not sent",
}


async def _work(job: dict[str, Any], steps: int) -> None:
    for step in range(steps):
        progress: dict[str, Any] = {
            "percent": round(100 * (step + 1) / (steps + 1)),
            "node_id": "3",
            "node": "KSampler",
            "node_percent": 50,
            "message": "running KSampler",
        }
        if job["input"].get("output", {}).get("live"):
            data = _picture(256, step / steps, "JPEG")
            progress["preview"] = {"media_type": "image/jpeg", "data": data}
            progress["files"] = ["draft.png"]
        async with AsyncClientSession() as session:
            await send_result(session, {"status": "IN_PROGRESS", "output": progress}, job)
        await asyncio.sleep(0.3)


def _result(sent: dict[str, Any]) -> dict[str, Any]:
    facts = {"type": "base64", "node_id": "7"}
    picture = _picture(512, 1, "PNG")
    sound = _sound()
    text = f"{sent.get('overrides')} {len(sent.get('images', []))}"
    return {
        "images": [
            {
                **facts,
                "filename": "lighthouse_00001_.png",
                "data": picture,
                "media_type": "image/png",
                "bytes": len(picture) * 3 // 4,
                "width": 512,
                "height": 320,
            }
        ],
        "audio": [
            {
                **facts,
                "filename": "waves.wav",
                "data": sound,
                "media_type": "audio/wav",
                "bytes": 4140,
            }
        ],
        "files": [
            {
                **facts,
                "filename": "page.html",
                "data": base64.b64encode(b"<script>alert(1)</script>").decode(),
                "media_type": "text/html",
                "bytes": 25,
            }
        ],
        "texts": [{"node_id": "8", "text": text}],
        "errors": ["an input was rounded"],
        "timings": {
            "inputs_ms": 2,
            "wait_ms": 0,
            "execution_ms": 1800,
            "delivery_ms": 3,
            "total_ms": 1805,
        },
    }


def _picture(width: int, light: float, file_format: str) -> str:
    """A sky over a sea."""
    height = width * 5 // 8
    sky = Image.linear_gradient("L").resize((width, height))
    dark, bright = (20, 24, 60), (round(255 * light), 150, 110)
    image = Image.composite(
        Image.new("RGB", sky.size, bright), Image.new("RGB", sky.size, dark), sky
    )
    image.paste((24, 52, 92), (0, height * 2 // 3, width, height))
    data = io.BytesIO()
    image.save(data, file_format)
    return base64.b64encode(data.getvalue()).decode()


def _sound() -> str:
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(bytes(range(256)) * 16)
    return base64.b64encode(data.getvalue()).decode()


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
