"""Sockets whose every wait ends when the job has to stop, and which take no more than they may."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from worker_comfyui.stop import Stop

TICK_S = 0.1
"""How long a wait on a socket may go on before the stop is asked."""

_T = TypeVar("_T")
_bounds: ContextVar[_Bounds | None] = ContextVar("bounds", default=None)


class TooMuch(Exception):
    """More came than was allowed to come."""


class _Bounds:
    """What the connections in use by this thread may take: time, and bytes that come in."""

    def __init__(self, stop: Stop, max_received: float) -> None:
        self.stop = stop
        self.max_received = max_received
        self._left = max_received

    def count(self, received: int) -> None:
        self._left -= received
        if self._left < 0:
            raise TooMuch


@contextmanager
def bounded(stop: Stop, *, max_received: float = float("inf")) -> Iterator[None]:
    """Bound what this thread does on connections of this module until the block ends.

    Every wait (for a name, a connection, a byte) then ends with what `stop.check()` raises, also on
    a connection that was opened before; a server that sends byte by byte gets no more time.

    Args:
        stop: Asked before each operation on a socket, and ten times a second meanwhile.
        max_received: Bytes that may come in; above it, `TooMuch` is raised.
    """
    token = _bounds.set(_Bounds(stop, max_received))
    try:
        yield
    finally:
        _bounds.reset(token)


def stop_in_use() -> Stop | None:
    """Return the stop that bounds this thread's connections; None: nothing does."""
    bounds = _bounds.get()
    return bounds.stop if bounds else None


def expect(size: int) -> None:
    """Refuse an answer before anything of it comes, whose head announces so many bytes.

    Raises:
        TooMuch: it is more than may come, or than any machine could hold.
    """
    bounds = _bounds.get()
    if size > (min(bounds.max_received, sys.maxsize) if bounds else sys.maxsize):
        raise TooMuch


class PatientSocket(socket.socket):
    """Cuts every wait into ticks. The timeout that was set is kept, as a sum of them."""

    _limit: float | None = None

    def settimeout(self, value: float | None, /) -> None:
        """Set the seconds after which an operation fails; None: never."""
        self._limit = value
        super().settimeout(TICK_S if value is None else min(value, TICK_S))

    def gettimeout(self) -> float | None:
        """Return what was set, not the tick."""
        return self._limit

    def send(self, data: Any, flags: int = 0, /) -> int:
        """Send what the other side takes now; return its bytes."""
        return self._patiently(super().send, data, flags)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send all."""
        # Not socket's own: interrupted by a tick, it could not say how much was sent.
        view = memoryview(data).cast("B")
        while view:
            view = view[self.send(view, flags) :]

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Wait for some bytes; none: the other side is done."""
        data = self._patiently(super().recv, buflen, flags)
        _count(len(data))
        return data

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Wait for some bytes and put them into a buffer; return their number."""
        sizes = () if nbytes is None else (nbytes, flags)
        received = self._patiently(super().recv_into, buffer, *sizes)
        _count(received)
        return received

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait, in ticks, until `ready` says so.

        Raises:
            TimeoutError: it did not within the timeout.
        """

        def wait() -> None:
            if not ready():
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

        self._patiently(wait)

    def _patiently(self, operation: Callable[..., _T], *arguments: Any) -> _T:
        end = None if self._limit is None else time.monotonic() + self._limit
        while True:
            _check()
            try:
                return operation(*arguments)
            except TimeoutError:
                if end is not None and time.monotonic() >= end:
                    raise


class PatientTlsSocket(PatientSocket, ssl.SSLSocket):
    """The same under TLS: an operation that was interrupted by a tick goes on where it was."""

    def do_handshake(self, block: bool = False) -> None:
        """Agree on keys; a failure leaves no socket open."""
        try:
            self._patiently(super().do_handshake, block)
        except BaseException:
            self.close()  # nobody else has it yet: it would be left to the garbage collector
            raise


def _check() -> None:
    if bounds := _bounds.get():
        bounds.stop.check()


def _count(received: int) -> None:
    if bounds := _bounds.get():
        bounds.count(received)
