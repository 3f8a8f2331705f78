"""Connections to addresses that were checked, whose every wait ends when the job has to stop.

    with sockets.bounded(stop), connections.pool(allow_private=False) as http:
        answer = http.request("GET", url, redirect=False, retries=False, preload_content=False)

Proxies of the environment are not used: a proxy resolves the name by itself, which would undo the
check.
"""

from __future__ import annotations

import functools
import http.client
import os
import select
import socket
import ssl
from typing import Any, ClassVar

import urllib3
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from worker_comfyui.hosts import sockets
from worker_comfyui.hosts.public import resolve
from worker_comfyui.hosts.sockets import (
    TICK_S,
    PatientSocket,
    PatientTlsSocket,
    TooMuch,
    stop_in_use,
)


def connect(
    host: str, port: int, timeout: float | None, *, allow_private: bool = False
) -> socket.socket:
    """Connect to a host by an address that was checked, the first that answers.

    Args:
        host: A name or an address.
        port: Its port.
        timeout: Seconds for each address; None: as long as `bounded` allows. It stays the socket's.
        allow_private: Take any address.

    Raises:
        NotPublic: an address of the host is not public.
        OSError: unknown name, or no address answers; TimeoutError is one of them.
    """
    addresses = resolve(host, port, allow_private=allow_private, stop=stop_in_use())
    failure = OSError(f"the host {host[:255]} has no address")
    for address in addresses:
        try:
            return _connected(address, port, timeout)
        except OSError as error:
            failure = error
    raise failure


def _connected(address: str, port: int, timeout: float | None) -> socket.socket:
    ((family, kind, protocol, _, place),) = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )
    sock = PatientSocket(family, kind, protocol)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as urllib3 does
        sock.setblocking(False)
        sock.connect_ex(place)
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        sock.settimeout(timeout)
        sock.wait_until(lambda: bool(poll.poll(TICK_S * 1000)))
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except BaseException:
        sock.close()
        raise
    if code:
        sock.close()
        raise OSError(code, os.strerror(code))
    return sock


@functools.cache
def tls() -> ssl.SSLContext:
    """Trust what the system trusts (or SSL_CERT_FILE names), and the usual public authorities."""
    context = ssl.create_default_context()
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    context.sslsocket_class = PatientTlsSocket
    return context


class _Answer(http.client.HTTPResponse):
    """Refuses what announces more than may come, and a chunk of a negative size.

    The memory for an answer of an announced size is taken before it comes, and a negative size
    would be read as "all that comes".
    """

    def begin(self) -> None:
        super().begin()
        if self.length is not None:
            sockets.expect(self.length)

    def _safe_read(self, amt: int) -> bytes:
        if amt < 0:
            raise http.client.IncompleteRead(b"")
        return super()._safe_read(amt)  # type: ignore[misc, no-any-return]


class _Tidy(http.client.HTTPConnection):
    """Put before a connection class: an answer that makes no sense leaves no socket open."""

    response_class = _Answer

    def getresponse(self) -> Any:
        """Read the head of the answer."""
        sock = self.sock
        try:
            return super().getresponse()
        except BaseException:
            # The half-made answer still refers to it, and only the garbage collector to that.
            if sock is not None and (descriptor := sock.detach()) >= 0:
                os.close(descriptor)
            raise


class Checked(_Tidy, HTTPConnection):
    """Put before a connection class of urllib3's: it connects as `connect` does."""

    allow_private: ClassVar[bool] = False

    def _new_conn(self) -> socket.socket:
        try:
            return connect(self.host, self.port, self.timeout, allow_private=self.allow_private)
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "no answer in time") from error
        except OSError as error:
            raise NewConnectionError(self, error.strerror or str(error)) from error


@functools.cache
def pool_classes(
    plain: type[HTTPConnection] = HTTPConnection,
    secure: type[HTTPSConnection] = HTTPSConnection,
    *,
    allow_private: bool,
) -> dict[str, type[HTTPConnectionPool]]:
    """Make pools of checked connections, for `PoolManager.pool_classes_by_scheme`.

    Args:
        plain: What a connection can do beside; for `http`.
        secure: The same for `https`.
        allow_private: Take any address.
    """
    made = {}
    for scheme, connection, pool_class in (
        ("http", plain, HTTPConnectionPool),
        ("https", secure, HTTPSConnectionPool),
    ):
        own = type("CheckedConnection", (Checked, connection), {"allow_private": allow_private})
        made[scheme] = type("CheckedPool", (pool_class,), {"ConnectionCls": own})
    return made


def pool(*, allow_private: bool, **options: Any) -> urllib3.PoolManager:
    """Make a pool of checked connections; `options` are those of urllib3's PoolManager."""
    manager = urllib3.PoolManager(ssl_context=tls(), **options)
    manager.pool_classes_by_scheme = pool_classes(allow_private=allow_private)
    return manager


SMALL_BYTES = 1 << 16


class ToServer(_Tidy):
    """A connection to a server of the operator's own, wherever it is; without urllib3's pool.

    It sends a small request in one piece, where http.client sends the head by itself: the server
    is woken once.
    """

    _pieces: list[Any] | None = None

    def request(self, *arguments: Any, **keywords: Any) -> None:
        """Send a request, as http.client does."""
        self._pieces = []
        try:
            super().request(*arguments, **keywords)
        finally:
            pieces, self._pieces = self._pieces, None
        is_small = sum(map(len, pieces)) < SMALL_BYTES
        for piece in [b"".join(pieces)] if is_small else pieces:
            self.send(piece)

    def send(self, data: Any) -> None:
        """Send bytes, or keep them until the request is whole."""
        if self._pieces is None:
            super().send(data)
        else:
            self._pieces.append(data)

    def connect(self) -> None:
        """Connect, without a proxy."""
        self.sock = connect(self.host, self.port, self.timeout, allow_private=True)


def reason(error: BaseException) -> str:
    """Say why a request failed, in words that go after "it"; `error` is one of FAILURES."""
    if isinstance(error, SSLError):
        inner = error.args[0] if error.args else error
        if isinstance(inner, ssl.SSLCertVerificationError):
            return f"has no valid certificate: {inner.verify_message}"
        return "does not speak TLS as it should"
    for kind, words in _REASONS:
        if isinstance(error, kind):
            return words.format(innermost(error))
    if "IncompleteRead" in str(error):  # urllib3 tells it in the text of a ProtocolError alone
        return "ended early: not all of it came"
    return f"closed the connection: {innermost(error)}"


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (NewConnectionError, "could not be reached: {}"),
    (ConnectTimeoutError, "could not be reached: {}"),
    (ReadTimeoutError, "did not answer in time"),
    (TooMuch, "answered more than is taken"),
    (ValueError, "cannot be asked: {}"),
)


def is_transient(error: BaseException) -> bool:
    """Tell whether another attempt may help."""
    return not isinstance(error, (SSLError, TooMuch, ValueError))


FAILURES = (HTTPError, TooMuch, http.client.HTTPException, OSError, ValueError)
"""What a request on these connections raises, `ValueError` for what cannot be sent at all."""


def innermost(error: BaseException) -> str:
    """Say what happened below the layers of urllib3.

    It names what it wraps as the cause or as an argument. `__context__` is no way there: it also
    is what was being handled when the request began, and leads round where that was raised again.
    """
    while (inner := error.__cause__ or _wrapped(error)) is not None:
        error = inner
    # What has a text of its own, and no number of the system, is the name service's (`public`).
    said = str(error) if isinstance(error, OSError) else ""
    return getattr(error, "strerror", None) or said or type(error).__name__


def _wrapped(error: BaseException) -> BaseException | None:
    return next((one for one in error.args if isinstance(one, BaseException)), None)
