"""A proxy between the worker and ComfyUI that drops, mutes and refuses connections on command."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_POLL_SECONDS = 0.02


@dataclass
class ComfyUIProxy:
    """A running proxy; its faults may be changed at any time.

    Attributes:
        address: `host:port`, for `COMFY_HOST`.
        refuse: Close every new connection at once, and drop those that are open.
        refuse_websockets: The same for websockets only.
        mute_websockets: Keep websockets open, but pass nothing on to the worker.
        cut_websocket_after: Drop each websocket once it brought the worker so many bytes.
        hold_server_ends: ComfyUI does not learn that a connection has ended.
        lose_answer_to: The next request that begins so reaches ComfyUI; its answer is lost.
        websockets: How many were opened.
        bytes_seen: What the websockets brought, all together.
    """

    address: str
    target: str
    refuse: bool = False
    refuse_websockets: bool = False
    mute_websockets: bool = False
    cut_websocket_after: int | None = None
    hold_server_ends: bool = False
    lose_answer_to: bytes = b""
    websockets: int = 0
    bytes_seen: int = 0
    closing: threading.Event = field(default_factory=threading.Event)
    _open: dict[socket.socket, bool] = field(default_factory=dict)

    def drop_websockets(self) -> int:
        """Cut all open websockets; returns how many there were."""
        return self._drop([end for end, is_websocket in list(self._open.items()) if is_websocket])

    def drop_all(self) -> int:
        """Cut all open connections; returns how many there were."""
        return self._drop(list(self._open))

    def _drop(self, ends: list[socket.socket]) -> int:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return len(ends)

    def serve(self, client: socket.socket) -> None:
        """Pass one connection on, until an end closes or a fault says so."""
        host, _, port = self.target.rpartition(":")
        with client, suppress(OSError):
            client.settimeout(10)
            head = client.recv(65536)
            is_websocket = head.startswith(b"GET /ws")
            if self.refuse or not head or (is_websocket and self.refuse_websockets):
                return
            with socket.create_connection((host, int(port)), 5) as server:
                self._pass_on(head, client, server)
                self._open[client] = is_websocket
                self.websockets += is_websocket
                back = threading.Thread(target=self._back, args=(server, client, is_websocket))
                back.start()
                self._pump(client, server)
                while self.hold_server_ends and not self.closing.is_set():
                    time.sleep(_POLL_SECONDS)
                for end in (client, server):
                    with suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
                back.join()
                del self._open[client]

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        source.settimeout(_POLL_SECONDS)
        while not self.closing.is_set():
            try:
                data = source.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            with suppress(OSError):
                self._pass_on(data, source, sink)

    def _pass_on(self, data: bytes, client: socket.socket, server: socket.socket) -> None:
        if self.lose_answer_to and data.startswith(self.lose_answer_to):
            self.lose_answer_to = b""
            client.shutdown(socket.SHUT_WR)
        server.sendall(data)

    def _back(self, source: socket.socket, sink: socket.socket, is_websocket: bool) -> None:
        """The other direction, where most of the faults are."""
        source.settimeout(_POLL_SECONDS)
        passed = 0
        while not self.closing.is_set():
            try:
                data = source.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                data = b""
            cut = self.cut_websocket_after if is_websocket else None
            last = not data
            if cut is not None and passed + len(data) >= cut:
                data, last = data[: cut - passed], True
            passed += len(data)
            self.bytes_seen += len(data) * is_websocket
            if not (is_websocket and self.mute_websockets):
                with suppress(OSError):
                    sink.sendall(data)
            if last:
                with suppress(OSError):
                    sink.shutdown(socket.SHUT_RDWR)
                return


@contextmanager
def proxying_comfyui(target: str) -> Iterator[ComfyUIProxy]:
    """Pass connections on to `host:port` until the block ends."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.settimeout(_POLL_SECONDS)
        host, port = listener.getsockname()
        proxy = ComfyUIProxy(f"{host}:{port}", target)
        acceptor = threading.Thread(target=_accept, args=(proxy, listener))
        acceptor.start()
        try:
            yield proxy
        finally:
            proxy.closing.set()
            acceptor.join()


def _accept(proxy: ComfyUIProxy, listener: socket.socket) -> None:
    serving = []
    while not proxy.closing.is_set():
        with suppress(TimeoutError):
            client, _ = listener.accept()
            thread = threading.Thread(target=proxy.serve, args=(client,))
            thread.start()
            serving.append(thread)
    proxy.drop_all()
    for thread in serving:
        thread.join()
