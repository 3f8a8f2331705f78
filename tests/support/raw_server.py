"""A TCP server that answers as a test says, byte by byte: for what no decent server does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class RawServer:
    """A running server.

    Attributes:
        address: Its `host:port`.
        requests: The head of each request, in the order in which they came.
        connections: How many there were.
        closing: Set when the test is over; a conversation without end asks for it.
    """

    address: str
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Its address as an HTTP URL."""
        return f"http://{self.address}"


Conversation = Callable[[socket.socket, RawServer], None]
"""What is said on a connection after the head of the request was read; then it is closed."""


@contextmanager
def conversing(talk: Conversation) -> Iterator[RawServer]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.02)
        host, port = listener.getsockname()
        server = RawServer(f"{host}:{port}")
        serving: list[threading.Thread] = []

        def accept() -> None:
            while not server.closing.is_set():
                with suppress(TimeoutError):
                    client, _ = listener.accept()
                    server.connections += 1
                    serving.append(threading.Thread(target=serve, args=(client,)))
                    serving[-1].start()

        def serve(client: socket.socket) -> None:
            with client, suppress(OSError):
                client.settimeout(30)
                if take_request(client, server):
                    talk(client, server)

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield server
        finally:
            server.closing.set()
            accepting.join()
            for thread in serving:
                thread.join()


def take_request(client: socket.socket, server: RawServer) -> bool:
    """Read the head of the next request on a connection, and note it; False: there is none."""
    head = b""
    while b"\r\n\r\n" not in head:
        if not (piece := client.recv(65536)):
            return False
        head += piece
    server.requests.append(head)
    return True


def saying(text: bytes) -> Conversation:
    """Say this and close."""

    def talk(client: socket.socket, _: RawServer) -> None:
        client.sendall(text)

    return talk


def repeating(text: bytes, pause_s: float = 0.0, *, first: bytes = b"") -> Conversation:
    """Say this again and again, until the other side has enough."""

    def talk(client: socket.socket, server: RawServer) -> None:
        client.sendall(first)
        while not server.closing.wait(pause_s):
            client.sendall(text)

    return talk


def silent(_: socket.socket, server: RawServer) -> None:
    """Say nothing, and keep the connection."""
    server.closing.wait()
