"""Replays recorded transcripts against a server, and brings both sides into a comparable form."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import websocket
from PIL import Image

from tests.support.comfyui import ROOT, ComfyUI
from tests.support.waiting import comes_true

TRANSCRIPTS = ROOT / "test_resources" / "comfyui" / "transcripts"

Json = dict[str, Any]

_CONTENTS_NOT_RECORDED = {"corrupt.png": b"this is no image", "notes.txt": b"only a text\n"}


def load(scenario: str) -> Json:
    """One recorded scenario."""
    content: Json = json.loads((TRANSCRIPTS / f"{scenario}.json").read_text())
    return content


@dataclass
class Replay:
    """What a server answered to the requests of a scenario."""

    answers: list[requests.Response] = field(default_factory=list)
    frames: list[Any] = field(default_factory=list)
    """Websocket frames: decoded JSON, or bytes, in their order; markers for the client's acts."""
    ids: dict[str, str] = field(default_factory=dict)
    """Recorded prompt ids with the ones of this run."""


class _Socket:
    """A websocket whose frames are collected by a thread."""

    def __init__(self, server: ComfyUI, client_id: str, frames: list[Any]) -> None:
        self._frames = frames
        address = f"ws://{server.address}/ws?clientId={client_id}"
        self._socket = websocket.create_connection(address, timeout=30)
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while True:
            try:
                opcode, data = self._socket.recv_data()
            except (OSError, websocket.WebSocketException):
                return
            if opcode == websocket.ABNF.OPCODE_TEXT:
                self._frames.append(json.loads(data))
            elif opcode == websocket.ABNF.OPCODE_BINARY:
                self._frames.append(bytes(data))
            else:
                return

    def close(self) -> None:
        self._socket.close()
        self._thread.join(5)


def replay(scenario: Json, server: ComfyUI) -> Replay:
    """Send a scenario's requests at their recorded times, and collect answers and frames."""
    result = Replay()
    client_id = scenario["websocket"][0]["json"]["data"]["sid"]
    sockets = [_Socket(server, client_id, result.frames)]
    comes_true(lambda: bool(result.frames))
    began = time.monotonic()
    for at, act in _timeline(scenario):
        time.sleep(max(0.0, began + at - time.monotonic()))
        if act == "closed the socket":
            sockets.pop().close()
            result.frames.append({"client": act})
        elif act == "opened it again":
            result.frames.append({"client": act})
            sockets.append(_Socket(server, client_id, result.frames))
        else:
            _exchange(act, server, result)
    expected_end = scenario["websocket"][-1]["json"]
    comes_true(lambda: _same_kind(result.frames[-1], expected_end))
    for socket in sockets:
        socket.close()
    return result


def _timeline(scenario: Json) -> Iterator[tuple[float, Any]]:
    acts = [(exchange.get("at_s", 0.0), exchange) for exchange in scenario["http"]]
    acts += [
        (entry["at_s"], entry["client"]) for entry in scenario["websocket"] if "client" in entry
    ]
    yield from sorted(acts, key=lambda act: act[0])


def _exchange(exchange: Json, server: ComfyUI, result: Replay) -> None:
    request, recorded = exchange["request"], exchange["response"]
    path = request["path"]
    for old, new in result.ids.items():
        path = path.replace(old, new)
    history = re.fullmatch(r"/history/(.+)", path)
    if history and recorded["body"]:
        server.wait(history[1])
    response = _send(request, path, server, result)
    result.answers.append(response)
    if request["method"] == "POST" and path == "/prompt" and response.status_code == 200:
        result.ids[recorded["body"]["prompt_id"]] = response.json()["prompt_id"]


def _send(request: Json, path: str, server: ComfyUI, result: Replay) -> requests.Response:
    if request["method"] == "GET":
        return server.get(path)
    body = request["body"]
    if path.startswith("/upload/"):
        content, content_type = _multipart(body)
        return server.post(path, data=content, headers={"Content-Type": content_type})
    if body is None:
        return server.post(path)
    text = body if isinstance(body, str) else json.dumps(body)
    for old, new in result.ids.items():
        text = text.replace(old, new)
    return server.post(path, data=text, headers={"Content-Type": "application/json"})


def _multipart(body: Json) -> tuple[bytes, str]:
    """The form of an upload, written by hand: clients refuse to send some recorded ones."""
    boundary = "transcript"
    files = body.get("multipart", {})
    fields = body.get("fields") or {} if files else body
    parts = []
    for name, file in files.items():
        disposition = f'form-data; name="{name}"; filename="{file["filename"]}"'
        head = f"Content-Disposition: {disposition}\r\nContent-Type: {file['content_type']}"
        parts.append(head.encode() + b"\r\n\r\n" + _upload_content(file))
    for name, value in fields.items():
        head = f'Content-Disposition: form-data; name="{name}"'
        parts.append(head.encode() + b"\r\n\r\n" + str(value).encode())
    lines = b"".join(f"--{boundary}\r\n".encode() + part + b"\r\n" for part in parts)
    return lines + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _upload_content(file: Json) -> bytes:
    """Recorded are only names and sizes; equal sizes stand for equal contents."""
    known = _CONTENTS_NOT_RECORDED.get(file["filename"])
    if known is not None:
        return known
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (zlib.crc32(bytes([file["bytes"]])) & 0xFF, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def _same_kind(live: Any, recorded: Json) -> bool:
    if not isinstance(live, dict) or live.get("type") != recorded["type"]:
        return False
    # The last `executing` and the first one of a node differ by their node.
    return recorded["type"] != "executing" or bool(live["data"]["node"] == recorded["data"]["node"])


@dataclass(frozen=True)
class Normal:
    """Replaces what differs from run to run: ids, times, numbers, paths, Python's own words."""

    ids: dict[str, str]
    """Prompt ids of this side, with the names that they get."""
    base: str
    """The folder that paths of this side begin with."""
    relative_counters: bool
    """Compare the counters in file names, counted from the first one; else leave them out."""
    first_number: float = 0
    first_counters: dict[str, int] = field(default_factory=dict)

    def __call__(self, value: Any, key: str = "") -> Any:
        """Normalise a JSON value."""
        if isinstance(value, dict):
            return self._mapping(value)
        if isinstance(value, list):
            return self._list(value, key)
        if key in ("timestamp", "ram_total", "ram_free"):
            return f"<{key}>"
        if key == "number":
            return value - self.first_number
        return self._text(value) if isinstance(value, str) else value

    def _mapping(self, value: Json) -> Json:
        # Tooltips and descriptions were removed from the recordings.
        return {
            self.ids.get(name, name): self(entry, name)
            for name, entry in value.items()
            if name not in ("tooltip", "description", "output_tooltips")
        }

    def _list(self, value: list[Any], key: str) -> Any:
        if key == "traceback":
            return "<frames>" if value else []
        if key in ("executed", "current_outputs", "nodes"):
            return sorted(value)
        if len(value) == 5 and isinstance(value[2], dict) and isinstance(value[4], list):
            number, prompt_id, prompt, extra_data, outputs = value  # an item of the queue
            return [
                number - self.first_number,
                self(prompt_id),
                self(prompt),
                self(extra_data),
                sorted(outputs),
            ]
        return [self(entry) for entry in value]

    def _text(self, text: str) -> str:
        if text.startswith(("tensor(", "array of shape")):
            return "<image>"
        text = self.ids.get(text, text).replace(self.base, "/comfyui")
        text = re.sub(r"_temp_[a-z]{5}_", "_temp_abcde_", text)
        return re.sub(r"(\w+_)(\d{5})(_\.\w+)", self._counter, text)

    def _counter(self, match: re.Match[str]) -> str:
        if not self.relative_counters:
            return f"{match[1]}#{match[3]}"
        first = self.first_counters.setdefault(match[1], int(match[2]))
        return f"{match[1]}+{int(match[2]) - first}{match[3]}"


def recorded_frames(scenario: Json) -> list[Any]:
    """The frames of a scenario in the form of `Replay.frames`."""
    return [
        {"client": entry["client"]} if "client" in entry else entry.get("json", entry)
        for entry in scenario["websocket"]
    ]


def without_repetition(frames: list[Any]) -> list[Any]:
    """Reduce the growing list of nodes in ``progress_state`` to the node that changed."""
    seen: Json = {}
    reduced: list[Any] = []
    for frame in frames:
        if isinstance(frame, dict) and frame.get("type") == "progress_state":
            nodes = frame["data"]["nodes"]
            changed = {name: state for name, state in nodes.items() if seen.get(name) != state}
            prompt_id = frame["data"]["prompt_id"]
            reduced.append({"type": "progress_state", "prompt_id": prompt_id, "changed": changed})
            seen = nodes
        else:
            reduced.append(frame)
    return reduced


def binary_summary(frame: Any) -> Any:
    """What of a binary frame can be compared: its kind, the image's format and size."""
    content = frame
    if isinstance(frame, dict):
        content = base64.b64decode(frame["binary"]["base64"].split("...")[0])
    kind, image_format = struct.unpack(">II", content[:8])
    at = content.index(b"\xff\xc0")  # the JPEG's frame header: its length, bits, height, width
    height, width = struct.unpack(">HH", content[at + 5 : at + 9])
    return {"kind": kind, "format": image_format, "size": (width, height)}


def example_png() -> bytes:
    """The picture that lies in ComfyUI's input folder from the start; any will do."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(buffer, "PNG")
    return buffer.getvalue()


def prepare_input(base: Path) -> None:
    """Put ``example.png`` into the input folder."""
    (base / "input").mkdir(parents=True, exist_ok=True)
    (base / "input" / "example.png").write_bytes(example_png())
