from __future__ import annotations

import json
import struct
import uuid
from pathlib import Path
from typing import Any

import websocket

from tests.local_comfyui.workflows import connect, empty_image, node, save
from tests.support.comfyui import FAULT_NODES, ComfyUI, running_comfyui

PROBE_NODES = FAULT_NODES.with_name("probe_nodes.py")


def frames_until_the_end(socket: websocket.WebSocket) -> list[Any]:
    frames: list[Any] = []
    while True:
        data = socket.recv()
        frame = json.loads(data) if isinstance(data, str) else data
        frames.append(frame)
        if isinstance(frame, dict) and frame["type"] == "executing" and not frame["data"]["node"]:
            return frames


def preview_prompt() -> dict[str, Any]:
    return {
        "1": empty_image(uuid.uuid4().int % 0xFFFFFF),
        "2": node("ProbeSleep", image=["1", 0], seconds=0.1, steps=1, preview=True),
        "3": save("2"),
    }


def test_a_client_without_an_id_is_given_one(server: ComfyUI) -> None:
    socket = connect(server, "")
    sid = json.loads(socket.recv())["data"]["sid"]
    socket.close()

    assert len(sid) == 32
    assert int(sid, 16) >= 0


def test_feature_flags_are_answered_and_bring_previews_with_metadata(server: ComfyUI) -> None:
    client_id = str(uuid.uuid4())
    socket = connect(server, client_id)
    flags = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
    socket.send(json.dumps(flags))
    socket.recv()
    answer = json.loads(socket.recv())
    prompt_id = server.submit(preview_prompt(), client_id=client_id)
    frames = frames_until_the_end(socket)
    socket.close()

    assert answer == {"type": "feature_flags", "data": server.get("/features").json()}
    previews = [frame for frame in frames if isinstance(frame, bytes)]
    kind, length = struct.unpack(">II", previews[0][:8])
    metadata = json.loads(previews[0][8 : 8 + length])
    assert (len(previews), kind) == (1, 4)
    assert (metadata["node_id"], metadata["prompt_id"]) == ("2", prompt_id)
    assert metadata["image_type"] == "image/jpeg"
    assert previews[0][8 + length :].startswith(b"\xff\xd8")
    kinds = [frame["type"] if isinstance(frame, dict) else "preview" for frame in frames]
    assert kinds.index("preview") == kinds.index("progress") - 1


def test_broken_frames_of_a_client_are_ignored(server: ComfyUI) -> None:
    client_id = str(uuid.uuid4())
    socket = connect(server, client_id)
    for text in ("{no json", "[]", '{"type": "feature_flags", "data": []}'):
        socket.send(text)
    server.submit(preview_prompt(), client_id=client_id)
    frames = frames_until_the_end(socket)
    socket.close()

    assert frames


def test_only_the_owner_gets_the_frames_of_a_prompt(server: ComfyUI) -> None:
    owner, other = connect(server, "owner"), connect(server, "other")
    server.submit(preview_prompt(), client_id="owner")
    frames_until_the_end(owner)
    other.settimeout(0.3)
    kinds = set()
    try:
        while True:
            kinds.add(json.loads(other.recv())["type"])
    except websocket.WebSocketTimeoutException:
        pass
    owner.close()
    other.close()

    assert kinds == {"status"}


def test_a_blocked_branch_is_told_and_the_rest_runs(tmp_path: Path) -> None:
    nodes = tmp_path / "blocking_nodes.py"
    nodes.write_text(
        "from comfy_execution.graph import ExecutionBlocker\n"
        "class Block:\n"
        "    RETURN_TYPES = ('IMAGE',)\n"
        "    FUNCTION = 'run'\n"
        "    @classmethod\n"
        "    def INPUT_TYPES(cls):\n"
        "        return {'required': {}}\n"
        "    def run(self):\n"
        "        return (ExecutionBlocker('closed'),)\n"
        "NODE_CLASS_MAPPINGS = {'Block': Block}\n"
    )
    with running_comfyui(tmp_path / "base", [nodes]) as server:
        socket = connect(server, "blocked")
        prompt = {"1": node("Block"), "2": save("1"), "3": empty_image(), "4": save("3")}
        prompt_id = server.submit(prompt, client_id="blocked")
        frames = frames_until_the_end(socket)
        entry = server.wait(prompt_id)
        socket.close()

    errors = [frame["data"] for frame in frames if frame["type"] == "execution_error"]
    assert [error["exception_type"] for error in errors] == ["ExecutionBlocked"]
    assert errors[0]["exception_message"] == "Execution Blocked: closed"
    assert (entry["status"]["status_str"], list(entry["outputs"])) == ("success", ["4"])
