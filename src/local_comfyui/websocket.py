"""The websockets: client ids, feature flags, and one ordered stream of frames to all of them."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import ClientError, WSMessage, WSMsgType, web

from local_comfyui.frames import preview_frame, preview_frame_with_metadata
from local_comfyui.progress import Preview
from local_comfyui.prompt import Json

_log = logging.getLogger(__name__)


@dataclass
class _Client:
    socket: web.WebSocketResponse
    features: Json = field(default_factory=dict)


class WebSockets:
    """All connected clients; an `EventSink` for the execution thread."""

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
            if client_id is None:
                receivers = list(self._clients.values())
            else:
                client = self._clients.get(client_id)
                receivers = [client] if client else []
            for receiver in receivers:
                await _send(receiver.socket, frame)

    def send(self, event: str, data: Json, client_id: str | None) -> None:
        """Queue a text frame; from any thread. A client that is not there misses it."""
        try:
            frame = json.dumps({"type": event, "data": data})
        except (TypeError, ValueError) as error:
            _log.error("A %s frame cannot be written as JSON: %s", event, error)
            return
        self._enqueue(frame, client_id)

    def send_preview(self, preview: Preview, client_id: str | None) -> None:
        """Queue a preview, unless its client gets previews with metadata."""
        if client_id is None or not self._wants_metadata(client_id):
            self._enqueue(preview_frame(preview), client_id)

    def send_preview_with_metadata(
        self, preview: Preview, metadata: Json, client_id: str | None
    ) -> None:
        """Queue a preview with metadata, if its client asked for them."""
        if client_id is not None and self._wants_metadata(client_id):
            self._enqueue(preview_frame_with_metadata(preview, metadata), client_id)

    def _wants_metadata(self, client_id: str) -> bool:
        client = self._clients.get(client_id)
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


async def _send(socket: web.WebSocketResponse, frame: str | bytes) -> None:
    try:
        if isinstance(frame, str):
            await socket.send_str(frame)
        else:
            await socket.send_bytes(frame)
    except (ClientError, ConnectionError, RuntimeError) as error:
        _log.warning("send error: %s", error)
