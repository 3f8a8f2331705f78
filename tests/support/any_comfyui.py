"""A ComfyUI that answers anything."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.support.anything import ANYTHING, HEADERS, Json, changed, take_body
from tests.support.raw_server import RawServer
from tests.support.workflows import png

CLASSES: Json = {
    "EmptyImage": {
        "input": {"required": {"width": ["INT", {}], "color": ["INT", {}]}},
        "input_order": {"required": ["width", "color"]},
        "output": ["IMAGE"],
        "output_node": False,
        "name": "EmptyImage",
    },
    "SaveImage": {
        "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}},
        "input_order": {"required": ["images", "filename_prefix"]},
        "output": [],
        "output_node": True,
        "name": "SaveImage",
    },
}
HISTORY: Json = {
    "prompt": [0, "ID", {}, {}, ["2"]],
    "outputs": {
        "2": {
            "images": [{"filename": "a.png", "subfolder": "", "type": "output"}],
            "text": ["said"],
        }
    },
    "status": {
        "status_str": "success",
        "completed": True,
        "messages": [
            ["execution_start", {"prompt_id": "ID", "timestamp": 1}],
            ["execution_cached", {"nodes": [], "prompt_id": "ID", "timestamp": 1}],
            ["execution_success", {"prompt_id": "ID", "timestamp": 2}],
        ],
    },
    "meta": {"2": {"node_id": "2", "display_node": "2", "parent_node": None}},
}
FAILED: Json = {
    **HISTORY,
    "outputs": {},
    "status": {
        "status_str": "error",
        "completed": False,
        "messages": [
            [
                "execution_error",
                {
                    "prompt_id": "ID",
                    "node_id": "2",
                    "node_type": "SaveImage",
                    "executed": [],
                    "exception_message": "it failed",
                    "exception_type": "ValueError",
                    "traceback": ["a"],
                    "current_inputs": {"images": ["x"]},
                    "current_outputs": {},
                },
            ]
        ],
    },
}
REFUSED: Json = {
    "error": {"type": "prompt_outputs_failed_validation", "message": "no", "details": "",
              "extra_info": {}},
    "node_errors": {
        "2": {
            "errors": [{"type": "value_not_in_list", "message": "Value not in list",
                        "details": "x: 'a' not in ['b']",
                        "extra_info": {"input_name": "x", "input_config": [["b"], {}],
                                       "received_value": "a"}}],
            "dependent_outputs": ["2"],
            "class_type": "SaveImage",
        }
    },
}  # fmt: skip
QUEUED: Json = {"prompt_id": "ID", "number": 0, "node_errors": {}}
QUEUE: Json = {"queue_running": [[0, "ID", {}, {}, []]], "queue_pending": []}
RIGHT: Json = {
    "/prompt": QUEUED,
    "/history": HISTORY,
    "/queue": QUEUE,
    "/object_info": CLASSES,
    "/upload": {"name": "a.png", "subfolder": "", "type": "input"},
    "/view": None,
    "/models": ["loras"],
}
Drawn = dict[str, tuple[int, list[bytes], bytes]]
"""For a route the status, headers and body; `ID` in a body is the prompt's id."""
STATS: Json = {"system": {"comfyui_version": "0.3.64"}, "devices": [{"name": "cpu"}]}


@dataclass
class OddComfyUI:
    """A ComfyUI whose answers to some routes are drawn.

    Attributes:
        drawn: The answers that are; the others are right.
        prompt_id: Of the prompt that was queued last.
    """

    drawn: Drawn = field(default_factory=dict)
    prompt_id: str = ""

    def talk(self, client: socket.socket, server: RawServer) -> None:
        """Answer one request; a `tests.support.raw_server.Conversation`."""
        head = server.requests[-1]
        method, _, rest = head.partition(b" ")
        path = rest.split(b" ")[0].decode("latin-1").split("?")[0]
        body = take_body(client, head)
        if method == b"POST" and path == "/prompt":
            with suppress(ValueError, KeyError):
                self.prompt_id = json.loads(body)["prompt_id"]
        client.sendall(self._answer(method, path))

    def _answer(self, method: bytes, path: str) -> bytes:
        if path == "/system_stats" or (path == "/prompt" and method == b"GET"):
            return said(200, [], json.dumps(STATS).encode())
        route = "/" + path.split("/")[1]
        if route in self.drawn:
            status, headers, body = self.drawn[route]
            return said(status, headers, body.replace(b"ID", self.prompt_id.encode()))
        value = RIGHT.get(route)
        if route == "/history" and method == b"GET":
            value = {"ID": value}
        content = png((1, 2, 3)) if value is None else json.dumps(value).encode()
        return said(
            404 if route == "/ws" else 200, [], content.replace(b"ID", self.prompt_id.encode())
        )


def said(status: int, headers: list[bytes], body: bytes) -> bytes:
    """Write an answer as it goes over the wire."""
    if not any(header.startswith((b"Content-Length", b"Transfer")) for header in headers):
        headers = [*headers, b"Content-Length: %d" % len(body)]
    head = b"\r\n".join([b"HTTP/1.1 %d X" % status, b"Connection: close", *headers])
    return head + b"\r\n\r\n" + body


def shown_as(route: str) -> st.SearchStrategy[bytes]:
    """Bodies for a route: right ones, changed ones, and anything."""
    alike: st.SearchStrategy[Any] = ANYTHING
    if route == "/history":
        alike = st.sampled_from([HISTORY, FAILED]).flatmap(lambda one: changed({"ID": one}))
    elif route == "/prompt":
        alike = st.sampled_from([QUEUED, REFUSED]).flatmap(changed)
    elif RIGHT[route] is not None:
        alike = changed(RIGHT[route])
    texts = (alike | ANYTHING).map(lambda value: json.dumps(value).encode())
    return texts | st.binary(max_size=40) | st.sampled_from([b"", b"[" * 5000, b"NaN", b"{}"])


@st.composite
def drawn_answers(draw: st.DrawFn) -> Drawn:
    """Answers to some of the routes."""
    routes = draw(st.lists(st.sampled_from(sorted(RIGHT)), max_size=3, unique=True))
    return {
        route: (
            draw(st.sampled_from([200, 200, 200, 400, 404, 500, 302, 204])),
            draw(st.lists(HEADERS, max_size=1)) if draw(st.booleans()) else [],
            draw(shown_as(route)),
        )
        for route in routes
    }
