"""The interrupt flag: raised by HTTP, read by the execution before each node and at each step."""

from __future__ import annotations

import threading


class InterruptProcessingException(Exception):
    """The running prompt was interrupted."""


class Interrupt:
    """One flag for the whole server, as in ComfyUI: it stops whatever runs when it is read."""

    def __init__(self) -> None:
        self._flag = threading.Event()

    def request(self) -> None:
        """Ask the running prompt to stop."""
        self._flag.set()

    def clear(self) -> None:
        """Forget an earlier request: done when a prompt starts."""
        self._flag.clear()

    def requested(self) -> bool:
        """Whether a stop was asked for and has not been obeyed yet."""
        return self._flag.is_set()

    def raise_if_requested(self) -> None:
        """Obey a request.

        Raises:
            InterruptProcessingException: One was pending; it is now forgotten.
        """
        if self._flag.is_set():
            self._flag.clear()
            raise InterruptProcessingException
