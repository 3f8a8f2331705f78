"""The interrupt flag: raised by HTTP, read by the execution before each node and at each step."""

from __future__ import annotations

import threading


class InterruptProcessingException(Exception):
    """The running prompt was interrupted."""


class Interrupt(threading.Event):
    """One flag for the whole server, as in ComfyUI: it stops whatever runs when it is read."""

    def obey(self) -> None:
        """Stop if a stop was asked for.

        Raises:
            InterruptProcessingException: It was; the request is now forgotten.
        """
        if self.is_set():
            self.clear()
            raise InterruptProcessingException
