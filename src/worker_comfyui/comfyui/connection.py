"""One HTTP connection to ComfyUI, kept from request to request.

Not a pool of urllib3's: between two jobs ComfyUI waits for three requests, and the pool takes as
long for each as ComfyUI itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPResponse, IncompleteRead
from typing import Any

from urllib3.util import wait_for_read

from worker_comfyui.hosts import connections

CHUNK_BYTES = 1 << 20


class Connection:
    """Asks the server at `host:port`, one request after another. One instance is for one thread.

    Every method raises one of `connections.FAILURES`; the next request has a new connection then.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        # ComfyUI is on this machine or in this network: a proxy for the internet is not for it.
        self._http = connections.ToServer(host.strip("[]"), int(port))
        self._owed: tuple[str, str] | None = None

    @contextmanager
    def request(
        self, method: str, path: str, *, timeout_s: float, **arguments: Any
    ) -> Iterator[HTTPResponse]:
        """Send a request, unless `send` has; what the block leaves of the answer is given up.

        Args:
            method: Such as GET.
            path: With the query; quoted.
            timeout_s: Seconds that the server may be silent.
            arguments: `body` and `headers`.
        """
        if self._owed != (method, path):
            self._send(method, path, timeout_s=timeout_s, **arguments)
        self._owed = None
        with self._answer() as answer:
            encoding = answer.getheader("Content-Encoding", "identity")
            if encoding != "identity":  # no other was accepted
                raise OSError(f"the answer is encoded: {encoding:.100}")
            yield answer

    def send(self, method: str, path: str, *, timeout_s: float, **arguments: Any) -> None:
        """Send a request ahead: the next one, if it is another, waits for its answer first."""
        self._send(method, path, timeout_s=timeout_s, **arguments)
        self._owed = (method, path)

    def settle(self, timeout_s: float | None = None) -> None:
        """Wait until what `send` sent is done, or the connection lost.

        Args:
            timeout_s: How long the server may be silent; None: as was said then.
        """
        if self._owed is None:
            return
        self._owed = None
        if timeout_s is not None:
            self._http.sock.settimeout(timeout_s)
        with suppress(*connections.FAILURES), self._answer() as answer:
            for _ in chunks(answer):
                pass

    def close(self) -> None:
        """Close it; the next request opens a new one."""
        self._owed = None
        self._http.close()

    @contextmanager
    def _answer(self) -> Iterator[HTTPResponse]:
        answer = None
        try:
            answer = self._http.getresponse()
            yield answer
        except BaseException:
            self.close()
            raise
        finally:
            if answer is not None and not answer.isclosed():
                answer.close()  # the socket is its own where the server is to close it
                self.close()

    def _send(self, method: str, path: str, *, timeout_s: float, **arguments: Any) -> None:
        self.settle()
        try:
            if self._http.sock is not None and wait_for_read(self._http.sock, 0):
                self._http.close()  # the server has closed it, or says what nobody asked for
            self._http.timeout = timeout_s
            if self._http.sock is None:
                self._http.connect()
            self._http.sock.settimeout(timeout_s)
            # A server may answer before it has read all of a request, and close.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._http.request(method, path, **arguments)
        except BaseException:
            self.close()
            raise


def chunks(answer: HTTPResponse) -> Iterator[bytes]:
    """Yield the body as it comes.

    Raises:
        IncompleteRead: it ended early.
    """
    while piece := answer.read(CHUNK_BYTES):
        yield piece
    if answer.length:  # http.client does not say so to those who read in pieces
        raise IncompleteRead(b"", answer.length)
