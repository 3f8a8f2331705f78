from __future__ import annotations

import json
import struct
import uuid
from contextlib import suppress
from typing import Any

import websocket

from tests.local_comfyui.workflows import Prompt, connect, empty_image, node, save
from tests.support.comfyui import ComfyUI


def frames_until_the_end(socket: websocket.WebSocket) -> list[Any]:
    frames: list[Any] = []
    while True:
        data = socket.recv()
        frames.append(json.loads(data) if isinstance(data, str) else data)
        if kind_of(frames[-1]) == "executing" and not frames[-1]["data"]["node"]:
            return frames


def kind_of(frame: Any) -> str:
    return frame["type"] if isinstance(frame, dict) else "preview"


def preview_prompt() -> Prompt:
    return {
        "1": empty_image(uuid.uuid4().int % 0xFFFFFF),
        "2": node("ProbeSleep", image=["1", 0], seconds=0.1, steps=1, preview=True),
        "3": save("2"),
    }


def test_a_client_without_an_id_is_given_one(server: ComfyUI) -> None:
    with connect(server, "") as socket:
        sid = json.loads(socket.recv())["data"]["sid"]

    assert len(sid) == 32
    assert int(sid, 16) >= 0


def test_feature_flags_are_answered_and_bring_previews_with_metadata(server: ComfyUI) -> None:
    with connect(server, "flags") as socket:
        flags = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
        socket.send(json.dumps(flags))
        socket.recv()
        answer = json.loads(socket.recv())
        prompt_id = server.submit(preview_prompt(), client_id="flags")
        frames = frames_until_the_end(socket)

    assert answer == {"type": "feature_flags", "data": server.get("/features").json()}
    (preview,) = [frame for frame in frames if isinstance(frame, bytes)]
    kind, length = struct.unpack(">II", preview[:8])
    metadata = json.loads(preview[8 : 8 + length])
    assert (kind, metadata["node_id"], metadata["prompt_id"]) == (4, "2", prompt_id)
    assert metadata["image_type"] == "image/jpeg"
    assert preview[8 + length :].startswith(b"\xff\xd8")
    kinds = [kind_of(frame) for frame in frames]
    assert kinds.index("preview") == kinds.index("progress") - 1


def test_broken_frames_of_a_client_are_ignored(server: ComfyUI) -> None:
    with connect(server, "broken") as socket:
        for text in ("{no json", "[]", '{"type": "feature_flags", "data": []}'):
            socket.send(text)
        server.submit(preview_prompt(), client_id="broken")

        assert frames_until_the_end(socket)


def test_only_the_owner_gets_the_frames_of_a_prompt(server: ComfyUI) -> None:
    kinds = set()
    with connect(server, "owner") as owner, connect(server, "other") as other:
        server.submit(preview_prompt(), client_id="owner")
        frames_until_the_end(owner)
        other.settimeout(0.3)
        with suppress(websocket.WebSocketTimeoutException):
            while True:
                kinds.add(json.loads(other.recv())["type"])

    assert kinds == {"status"}
