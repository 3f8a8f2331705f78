"""Small prompts for the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import websocket

from tests.support.comfyui import ComfyUI
from tests.support.waiting import wait_until

Prompt = dict[str, Any]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """One node of a prompt."""
    return {"class_type": class_type, "inputs": inputs}


def empty_image(color: int = 0, size: int = 8, batch_size: int = 1) -> dict[str, Any]:
    """A node that makes an image."""
    return node("EmptyImage", width=size, height=size, batch_size=batch_size, color=color)


def save(source: str, prefix: str = "x", slot: int = 0) -> dict[str, Any]:
    """A node that saves what another one gives."""
    return node("SaveImage", images=[source, slot], filename_prefix=prefix)


def image_prompt(color: int = 0, prefix: str = "x") -> Prompt:
    """A prompt that saves one image."""
    return {"1": empty_image(color), "2": save("1", prefix)}


def sleep_prompt(seconds: float) -> Prompt:
    """A prompt that takes a while and can be interrupted."""
    return {"1": node("TestSleepOutput", seconds=seconds)}


def last_message(entry: dict[str, Any]) -> str:
    """The event with which a prompt has ended."""
    event: str = entry["status"]["messages"][-1][0]
    return event


def wait_until_running(server: ComfyUI, prompt_id: str) -> None:
    """Wait until a prompt is the running one."""
    wait_until(
        lambda: [item[1] for item in server.get("/queue").json()["queue_running"]] == [prompt_id]
    )


@contextmanager
def connect(server: ComfyUI, client_id: str) -> Iterator[websocket.WebSocket]:
    """Open a websocket."""
    address = f"ws://{server.address}/ws?clientId={client_id}"
    with closing(websocket.create_connection(address, timeout=20)) as socket:
        yield socket
