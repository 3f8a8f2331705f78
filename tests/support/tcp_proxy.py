"""A TCP proxy with faults: in front of a server, it cuts, stalls or slows connections."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_POLL_SECONDS = 0.02


@dataclass
class Faults:
    """What the proxy does to the bytes from clients; may be changed while it runs.

    Attributes:
        cut_after: Close a connection once so many bytes came from the client.
        stall_after: Pass on no more after so many bytes, but keep the connection open.
        bytes_per_second: Pass on at most so many.
        connections: How many clients have connected.
    """

    cut_after: int | None = None
    stall_after: int | None = None
    bytes_per_second: int | None = None
    connections: int = 0


@dataclass
class TcpProxy:
    """A running proxy."""

    address: str
    target: str
    faults: Faults
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Its address as an HTTP URL."""
        return f"http://{self.address}"


@contextmanager
def proxying(target: str, faults: Faults | None = None) -> Iterator[TcpProxy]:
    """Pass connections on to `host:port` until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_POLL_SECONDS)
        host, port = listener.getsockname()
        proxy = TcpProxy(f"{host}:{port}", target, faults or Faults())
        threads = [threading.Thread(target=_accept, args=(proxy, listener))]
        threads[0].start()
        try:
            yield proxy
        finally:
            proxy.closing.set()
            threads[0].join()


def _accept(proxy: TcpProxy, listener: socket.socket) -> None:
    serving = []
    while not proxy.closing.is_set():
        try:
            client, _ = listener.accept()
        except TimeoutError:
            continue
        proxy.faults.connections += 1
        thread = threading.Thread(target=_serve, args=(proxy, client))
        thread.start()
        serving.append(thread)
    for thread in serving:
        thread.join()


def _serve(proxy: TcpProxy, client: socket.socket) -> None:
    host, _, port = proxy.target.rpartition(":")
    with client:
        try:
            server = socket.create_connection((host, int(port)), 5)
        except OSError:
            return
        with server:
            back = threading.Thread(target=_pump, args=(proxy, server, client, None))
            back.start()
            _pump(proxy, client, server, proxy.faults)
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            back.join()


def _pump(
    proxy: TcpProxy, source: socket.socket, sink: socket.socket, faults: Faults | None
) -> None:
    """Pass bytes on until an end closes, the proxy closes, or a fault says so."""
    passed = 0
    source.settimeout(_POLL_SECONDS)
    while not proxy.closing.is_set():
        try:
            data = source.recv(16384)
        except TimeoutError:
            continue
        except OSError:
            return
        if not data:
            return
        passed += len(data)
        if faults and faults.cut_after is not None and passed > faults.cut_after:
            return
        if faults and faults.stall_after is not None and passed > faults.stall_after:
            proxy.closing.wait()
            return
        if faults and faults.bytes_per_second:
            time.sleep(len(data) / faults.bytes_per_second)
        try:
            sink.sendall(data)
        except OSError:
            return
