"""Connects to public addresses alone, for transfers whose URLs callers choose."""

from __future__ import annotations

import socket

from worker_comfyui.download import resolve
from worker_comfyui.errors import InputUnavailable, InvalidRequest
from worker_comfyui.models.transfer.errors import Refused


def connect_public(host: str, port: int, timeout_s: float) -> socket.socket:
    """Connect to a host all of whose addresses are public: to one that was checked.

    Raises:
        Refused: one is not.
        OSError: it is unknown, or does not answer.
    """
    try:
        addresses = resolve(host, port, allow_private=False)
    except InvalidRequest as error:
        raise Refused(error.message) from error
    except InputUnavailable as error:
        raise OSError(error.message) from error
    failure = OSError("no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout_s)
        except OSError as error:
            failure = error
    raise failure
