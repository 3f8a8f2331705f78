"""The port of a ComfyUI for which nobody has chosen one."""

from __future__ import annotations

import errno
import os
import secrets
import socket
from contextlib import suppress

LOWEST = 10_000
OUTGOING = 32_768
"""From here on Linux gives ports to outgoing connections (net.ipv4.ip_local_port_range), also that
which `bind` to port 0 gives: one of them could take it in the seconds until ComfyUI listens."""
_TRIES = 100


def free_port() -> int:
    """Choose a port on which nobody listens; who takes it meanwhile is found out by `Run.is_ours`.

    Raises:
        OSError: none was found.
    """
    for _ in range(_TRIES):
        port = LOWEST + secrets.randbelow(OUTGOING - LOWEST)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
