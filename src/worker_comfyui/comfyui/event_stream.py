"""ComfyUI's websocket: the connection, and frames as they come; events.py knows their meaning."""

from __future__ import annotations

import socket
from contextlib import suppress

import websocket
from websocket._abnf import frame_buffer

MAX_FRAME_BYTES = 256 << 20
"""Far above any picture that a node sends; a frame is held in memory."""


class Disconnected(Exception):
    """The websocket is closed, or could not be opened."""


class _Frames(frame_buffer):
    """Takes no frame that announces more than it may have: ComfyUI's history is asked then."""

    def recv_length(self) -> None:
        super().recv_length()
        if self.length is not None and self.length > MAX_FRAME_BYTES:
            raise websocket.WebSocketProtocolException(f"a frame of {self.length} bytes")


class EventStream:
    """The websocket of one client id. ComfyUI replays nothing: what is missed is lost."""

    def __init__(self, address: str, client_id: str, *, timeout_s: float = 1.0) -> None:
        """Connect.

        Raises:
            Disconnected: it did not work.
        """
        # The library checks UTF-8 byte by byte in Python: minutes for what a node may report.
        self._socket = websocket.WebSocket(skip_utf8_validation=True)
        received = self._socket.frame_buffer.recv
        self._socket.frame_buffer = _Frames(received, skip_utf8_validation=True)
        host, _, port = address.rpartition(":")
        try:
            # A socket of our own: the library would go through a proxy of the environment.
            plain = socket.create_connection((host.strip("[]"), int(port)), timeout_s)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # It is kept between jobs, and a router in between may forget it without a word.
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # Without an Origin: ComfyUI refuses one that is not its own address (server.py,
            # create_origin_only_middleware).
            self._socket.connect(
                f"ws://{address}/ws?clientId={client_id}",
                timeout=timeout_s,
                socket=plain,
                suppress_origin=True,
            )
        except (websocket.WebSocketException, OSError, ValueError, IndexError) as error:
            # The last two: the library's, for an answer that is not HTTP.
            raise Disconnected(str(error)) from error

    def receive(self, timeout_s: float) -> str | bytes | None:
        """Wait for a frame, with 0 not at all; None when none came in time.

        Raises:
            Disconnected: there will be no more.
        """
        self._socket.settimeout(timeout_s)
        try:
            opcode, data = self._socket.recv_data()
        except (websocket.WebSocketTimeoutException, BlockingIOError):
            # The second: the library's, for a timeout of 0.
            return None
        except (websocket.WebSocketException, OSError) as error:
            raise Disconnected(str(error)) from error
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise Disconnected("ComfyUI closed the connection")
        if opcode == websocket.ABNF.OPCODE_TEXT:
            return bytes(data).decode("utf-8", "replace")
        return bytes(data)

    def close(self) -> None:
        """Close it at once, without waiting for the other side."""
        with suppress(websocket.WebSocketException, OSError):
            self._socket.shutdown()
