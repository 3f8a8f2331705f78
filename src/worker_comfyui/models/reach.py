"""Connects to public addresses alone, for transfers whose URLs callers choose."""

from __future__ import annotations

import socket

from worker_comfyui.hosts.public import NotPublic, resolve
from worker_comfyui.models.transfer.errors import Refused


def connect_public(host: str, port: int, timeout_s: float) -> socket.socket:
    """Connect to a host all of whose addresses are public: to one that was checked.

    Raises:
        Refused: one is not.
        OSError: it is unknown, or does not answer.
    """
    try:
        addresses = resolve(host, port, allow_private=False)
    except NotPublic as error:
        raise Refused(f"the host {error.host} has an address that is not public") from error
    failure = OSError("no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout_s)
        except OSError as error:
            failure = error
    raise failure
