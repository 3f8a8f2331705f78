"""The websockets: client ids, feature flags, and one ordered stream of frames to all of them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientError, WSMessage, WSMsgType, web
from PIL import Image, ImageOps

from local_comfyui.prompt import Json

Preview = tuple[str, Any, int | None]
"""Image format, Pillow image, longest side or None."""

_log = logging.getLogger(__name__)

# Kinds of binary frames (ComfyUI ``protocol.py``).
_PREVIEW_IMAGE = 1
_PREVIEW_IMAGE_WITH_METADATA = 4


@dataclass
class _Client:
    socket: web.WebSocketResponse
    features: Json = field(default_factory=dict)


class WebSockets:
    """All connected clients. A ``client_id`` of None means all of them.

    What begins with ``send`` may be called from any thread; a client that is not there misses it.
    """

    def __init__(self, features: Json) -> None:
        """Answer clients that send their feature flags with these ``features``."""
        self._features = features
        self._clients: dict[str, _Client] = {}
        self._frames: asyncio.Queue[tuple[str | bytes, str | None]] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def publish(self) -> None:
        """Send queued frames in their order, for ever."""
        self._loop = asyncio.get_running_loop()
        while True:
            frame, client_id = await self._frames.get()
            for receiver, client in list(self._clients.items()):
                if client_id in (None, receiver):
                    await _send(client.socket, frame)

    def send(self, event: str, data: Json, client_id: str | None) -> None:
        """Send a text frame."""
        try:
            self._enqueue(_text(event, data), client_id)
        except (TypeError, ValueError) as error:
            _log.error("A %s frame cannot be written as JSON: %s", event, error)

    def send_preview(
        self, preview: Preview, client_id: str | None, metadata: Json | None = None
    ) -> None:
        """Send a preview, with metadata to a client that asked for it; integers are big-endian."""
        if metadata is None:
            image_format = 1 if preview[0] == "JPEG" else 2
            head = struct.pack(">II", _PREVIEW_IMAGE, image_format)
        else:
            text = json.dumps({**metadata, "image_type": f"image/{preview[0].lower()}"}).encode()
            head = struct.pack(">II", _PREVIEW_IMAGE_WITH_METADATA, len(text)) + text
        self._enqueue(head + _encoded(*preview), client_id)

    def wants_preview_metadata(self, client_id: str | None) -> bool:
        """Whether a client asked for previews with metadata."""
        client = self._clients.get(client_id or "")
        return client is not None and client.features.get("supports_preview_metadata") is True

    def _enqueue(self, frame: str | bytes, client_id: str | None) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._frames.put_nowait, (frame, client_id))

    async def serve(
        self,
        request: web.Request,
        status: Callable[[], Json],
        running_node: Callable[[str], str | None],
    ) -> web.WebSocketResponse:
        """Handle ``GET /ws`` until the client goes.

        Args:
            request: Its query may hold ``clientId``.
            status: The ``status`` of the first frame.
            running_node: The node that runs now for a client id.
        """
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        sid = request.query.get("clientId", "") or uuid.uuid4().hex
        client = self._clients[sid] = _Client(socket)
        try:
            await _send(socket, _text("status", {"status": status(), "sid": sid}))
            node_id = running_node(sid)
            if node_id is not None:
                await _send(socket, _text("executing", {"node": node_id}))
            first = True
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await self._receive(client, message, first=first)
                    first = False
        finally:
            # By id, as ComfyUI does: a client that connects again before this socket has ended
            # is left open and mute.
            self._clients.pop(sid, None)
        return socket

    async def _receive(self, client: _Client, message: WSMessage, *, first: bool) -> None:
        """Only the first text of a connection counts, and only when it holds feature flags."""
        try:
            content = json.loads(message.data)
        except ValueError:
            _log.warning("Invalid JSON received from client: %.100s", message.data)
            return
        if first and isinstance(content, dict) and content.get("type") == "feature_flags":
            flags = content.get("data")
            client.features = flags if isinstance(flags, dict) else {}
            await _send(client.socket, _text("feature_flags", self._features))

    async def close(self) -> None:
        """Close every socket, so that the server can end."""
        for client in list(self._clients.values()):
            await client.socket.close()


def _text(event: str, data: Json) -> str:
    return json.dumps({"type": event, "data": data})


def _encoded(image_format: str, image: Image.Image, longest_side: int | None) -> bytes:
    if longest_side is not None:
        size = (longest_side, longest_side)
        image = ImageOps.contain(image, size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format=image_format, quality=95, compress_level=1)
    return buffer.getvalue()


async def _send(socket: web.WebSocketResponse, frame: str | bytes) -> None:
    try:
        await (socket.send_str(frame) if isinstance(frame, str) else socket.send_bytes(frame))
    except (ClientError, ConnectionError, RuntimeError) as error:
        _log.warning("send error: %s", error)
