"""The websockets: client ids, feature flags, and one ordered stream of frames to all of them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import struct
import uuid
from collections.abc import Callable
from typing import Any

from aiohttp import ClientError, WSMessage, WSMsgType, web
from PIL import Image, ImageOps

from local_comfyui.prompt import Json

Preview = tuple[str, Any, int | None]
"""Image format, Pillow image, longest side or None."""

_Frame = str | Callable[[], bytes]

_log = logging.getLogger(__name__)


class WebSockets:
    """All connected clients. A ``client_id`` of None means all of them.

    What begins with ``send`` may be called from any thread; a client that is not there misses it.
    """

    def __init__(self, features: Json) -> None:
        """Answer clients that send their feature flags with these ``features``."""
        self._features = features
        self._clients: dict[str, web.WebSocketResponse] = {}
        self._frames: asyncio.Queue[tuple[_Frame, str | None]] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def publish(self) -> None:
        """Send queued frames in their order, for ever."""
        self._loop = asyncio.get_running_loop()
        while True:
            queued, client_id = await self._frames.get()
            # Encoded here, as in ComfyUI: many large previews keep HTTP from being answered.
            frame = queued if isinstance(queued, str) else queued()
            for receiver, socket in list(self._clients.items()):
                if client_id in (None, receiver):
                    await _send(socket, frame)

    def send(self, event: str, data: Json, client_id: str | None) -> None:
        """Send a text frame."""
        try:
            self._enqueue(_text(event, data), client_id)
        except (TypeError, ValueError) as error:
            _log.error("A %s frame cannot be written as JSON: %s", event, error)

    def send_preview(
        self, preview: Preview, client_id: str | None, metadata: Json | None = None
    ) -> None:
        """Send a preview, with metadata to a client that asked for it (``protocol.py``)."""
        if metadata is None:
            head = struct.pack(">II", 1, 1 if preview[0] == "JPEG" else 2)
        else:
            text = json.dumps({**metadata, "image_type": f"image/{preview[0].lower()}"}).encode()
            head = struct.pack(">II", 4, len(text)) + text
        self._enqueue(lambda: head + _encoded(*preview), client_id)

    def wants_preview_metadata(self, client_id: str | None) -> bool:
        """Whether a client asked for previews with metadata."""
        socket = self._clients.get(client_id or "")
        flags = {} if socket is None else socket.get("feature_flags", {})
        return flags.get("supports_preview_metadata") is True

    def _enqueue(self, frame: _Frame, client_id: str | None) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._frames.put_nowait, (frame, client_id))

    async def serve(
        self,
        request: web.Request,
        status: Callable[[], Json],
        running_node: Callable[[str], str | None],
    ) -> web.WebSocketResponse:
        """Handle ``GET /ws`` until the client goes.

        It is told the ``status`` first, then the node that runs for its id, if any.
        """
        socket = web.WebSocketResponse()  # also a mapping, which keeps the client's flags
        await socket.prepare(request)
        sid = request.query.get("clientId", "") or uuid.uuid4().hex
        self._clients[sid] = socket
        try:
            await _send(socket, _text("status", {"status": status(), "sid": sid}))
            node_id = running_node(sid)
            if node_id is not None:
                await _send(socket, _text("executing", {"node": node_id}))
            await self._receive(socket, await socket.receive())
            async for _ in socket:
                pass
        finally:
            # By id, as ComfyUI does: a client that connects again before this socket has ended
            # is left open and mute.
            self._clients.pop(sid, None)
        return socket

    async def _receive(self, socket: web.WebSocketResponse, first: WSMessage) -> None:
        """Only the first text of a connection counts, and only when it holds feature flags."""
        try:
            content = json.loads(first.data) if first.type is WSMsgType.TEXT else None
        except ValueError:
            _log.warning("Invalid JSON received from client: %.100s", first.data)
            return
        if isinstance(content, dict) and content.get("type") == "feature_flags":
            flags = content.get("data")
            socket["feature_flags"] = flags if isinstance(flags, dict) else {}
            await _send(socket, _text("feature_flags", self._features))

    async def close(self) -> None:
        """Close every socket, so that the server can end."""
        for socket in list(self._clients.values()):
            await socket.close()


def _text(event: str, data: Json) -> str:
    return json.dumps({"type": event, "data": data})


def _encoded(image_format: str, image: Image.Image, longest_side: int | None) -> bytes:
    if longest_side is not None:
        image = ImageOps.contain(image, (longest_side, longest_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format=image_format, quality=95, compress_level=1)  # `send_image`'s
    return buffer.getvalue()


async def _send(socket: web.WebSocketResponse, frame: str | bytes) -> None:
    try:
        await (socket.send_str(frame) if isinstance(frame, str) else socket.send_bytes(frame))
    except (ClientError, ConnectionError, RuntimeError) as error:
        _log.warning("send error: %s", error)
