"""Connections that can be ended at any moment, from another thread."""

from __future__ import annotations

import functools
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Self, TypeVar
from urllib.parse import SplitResult, quote

from worker_comfyui.models.transfer.errors import Ended
from worker_comfyui.models.transfer.rules import Rules

T = TypeVar("T")

CONNECT_TIMEOUT_S = 10.0
STALL_S = 30.0
"""A connection that gave less than one slice in this time is made anew: some freeze for ever."""
SLICE_BYTES = 1 << 19
"""What is read at once. Half as much has twice the threads wait for each other."""
SLOW_SLICE_BYTES = 1 << 16
"""The same over a slow line: many connections that share it are not to be taken for frozen."""
SLOW_S = 1.0
USER_AGENT = "worker-comfyui"
_LOOK_S = 0.05
_SAFETY_S = 300.0
"""Ends a read that no watch looks after any more."""
_END_S = 1.0
"""Not longer: looking up a host cannot be ended, and its thread is a daemon."""


class Watch:
    """All connections of one transfer."""

    def __init__(self, *, stall_s: float = STALL_S) -> None:
        self._ended = threading.Event()
        self._stall_s = stall_s
        self._lines: set[Line] = set()
        self._inner: list[Watch] = []
        self._lock = threading.Lock()

    def inner(self) -> Watch:
        """Make a watch over a part of the work: it may end earlier, and ends with the whole."""
        watch = Watch(stall_s=self._stall_s)
        with self._lock:
            self._inner.append(watch)
        if self._ended.is_set():
            watch.end()
        return watch

    def add(self, line: Line) -> None:
        """Watch a connection."""
        with self._lock:
            self._lines.add(line)

    def remove(self, line: Line) -> None:
        """Watch it no longer."""
        with self._lock:
            self._lines.discard(line)

    def end(self) -> None:
        """End every connection, and every wait, now and from now on."""
        self._ended.set()
        for part in self._all():
            part.shut() if isinstance(part, Line) else part.end()

    def look(self) -> None:
        """End those that stand still; their threads then make new ones."""
        for part in self._all():
            if isinstance(part, Watch):
                part.look()
            elif part.stands_still_for() > self._stall_s:
                part.shut()

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            Ended: the transfer was ended meanwhile.
        """
        if self._ended.wait(seconds):
            raise Ended

    def check(self) -> None:
        """Raise Ended if the transfer was ended."""
        if self._ended.is_set():
            raise Ended

    def _all(self) -> list[Line | Watch]:
        with self._lock:
            return [*self._lines, *self._inner]


def run(work: Callable[[], T], watch: Watch, tick: Callable[[], None]) -> T:
    """Do blocking work in a thread, and call `tick` often until it is done.

    Whatever `tick` raises ends the work, with its connections, and is raised.
    """
    answer: list[T] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            answer.append(work())
        except BaseException as error:  # noqa: BLE001 - raised below, by the thread that waits
            failure.append(error)

    thread = threading.Thread(target=target, name="model-transfer", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_LOOK_S)
            tick()
            watch.look()
    except BaseException:
        watch.end()
        thread.join(_END_S)
        raise
    if failure:
        raise failure[0]
    return answer[0]


class Line:
    """A connection that is kept open from one request to the next. For one thread."""

    def __init__(self, watch: Watch, rules: Rules) -> None:
        self._watch = watch
        self._rules = rules
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._response: http.client.HTTPResponse | None = None
        self._origin = ("", "")
        self._waits_since: float | None = None
        self._slice = SLOW_SLICE_BYTES
        watch.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._watch.remove(self)

    def ask(self, parts: SplitResult, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """Send a GET; return the answer, whose body is still to be read.

        Raises:
            OSError: no connection or no answer.
            http.client.HTTPException: an answer that is none.
            Refused: the address may not be reached.
            Ended: the transfer was ended.
        """
        self._watch.check()
        is_kept = self._origin == (parts.scheme, parts.netloc) and self._is_free()
        if is_kept:
            # The other side may have closed it by now: that is no failure.
            with suppress(OSError, http.client.HTTPException):
                return self._send(parts, headers)
            self._watch.check()
        self._open(parts)
        return self._send(parts, headers)

    def read(self, view: memoryview) -> int:
        """Read the next bytes of the answer into `view`, at most one slice; 0 at its end.

        Raises:
            OSError, http.client.HTTPException: it broke off.
            Ended: the transfer was ended.
        """
        if self._response is None:
            raise OSError("closed")
        self._waits_since = started = time.monotonic()
        try:
            count = self._response.readinto(view[: self._slice])
        finally:
            self._waits_since = None
            self._watch.check()
        is_slow = time.monotonic() - started > SLOW_S
        self._slice = SLOW_SLICE_BYTES if is_slow else SLICE_BYTES
        return count

    def check(self) -> None:
        """Raise Ended if the transfer was ended."""
        self._watch.check()

    def close(self) -> None:
        """Close it; the next request opens it anew."""
        for thing in (self._response, self._connection, self._socket):
            if thing is not None:
                with suppress(OSError):
                    thing.close()
        self._connection = self._socket = self._response = None
        self._waits_since = None

    def shut(self) -> None:
        """End it from another thread: whoever reads or waits gets an error at once."""
        if (sock := self._socket) is not None:
            # Not SSLSocket.shutdown: it takes the TLS state away from a read that is under way.
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def stands_still_for(self) -> float:
        """Return the seconds for which the other side has been silent while it was to speak."""
        since = self._waits_since
        return 0.0 if since is None else time.monotonic() - since

    def _is_free(self) -> bool:
        return (
            self._connection is not None
            and self._connection.sock is not None
            and (self._response is None or self._response.isclosed())
        )

    def _open(self, parts: SplitResult) -> None:
        self.close()
        host = parts.hostname or ""
        is_tls = parts.scheme == "https"
        sock = self._rules.open(parts, CONNECT_TIMEOUT_S)
        if is_tls:
            # The handshake comes when `shut` can end it: a server may be silent.
            sock = _tls().wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        self._socket = sock
        sock.settimeout(_SAFETY_S)
        self._watch.check()
        if isinstance(sock, ssl.SSLSocket):
            self._waits_since = time.monotonic()
            sock.do_handshake()
        kind = http.client.HTTPSConnection if is_tls else http.client.HTTPConnection
        self._connection = kind(parts.netloc)
        self._connection.sock = sock
        # By itself it would connect again without the check.
        self._connection.auto_open = 0
        self._origin = (parts.scheme, parts.netloc)

    def _send(self, parts: SplitResult, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        if self._connection is None:
            raise OSError("closed")
        self._waits_since = time.monotonic()
        try:
            self._connection.request(
                "GET",
                _target(parts),
                headers={
                    "User-Agent": USER_AGENT,
                    "Accept": "*/*",
                    "Accept-Encoding": "identity",  # a part of compressed content is of no use
                    **headers,
                },
            )
            self._response = self._connection.getresponse()
        finally:
            self._waits_since = None
        return self._response


def _target(parts: SplitResult) -> str:
    query = f"?{parts.query}" if parts.query else ""
    # What is quoted stays: a link is signed as it is. The rest http.client would refuse.
    return quote((parts.path or "/") + query, safe="!#$%&'()*+,/:;=?@[]~")


@functools.cache
def _tls() -> ssl.SSLContext:
    """Trust what the system trusts (or SSL_CERT_FILE names), and the usual public authorities."""
    context = ssl.create_default_context()
    with suppress(ImportError, OSError):
        import certifi  # noqa: PLC0415 - the build of an image has the system's alone

        context.load_verify_locations(certifi.where())
    return context
