"""May the worker connect there? One answer for all addresses that a caller can choose.

A name is resolved once, every address is checked, and the connection goes to a checked address
itself (`hosts.connections`): a second DNS answer (DNS rebinding) is never asked for.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from concurrent.futures import Future
from contextlib import suppress

from worker_comfyui.stop import TICK_S, Stop

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NEVER = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24",  # protocol assignments; a cloud's metadata service among them
            "100.64.0.0/10",  # carrier-grade NAT, where clouds put internal services too
            "168.63.129.16/32",  # Azure's platform service: public by its number only
            "64:ff9b:1::/48",  # NAT64 of the local network
            "2001::/32",  # Teredo: the IPv4 address that is really meant is obscured
            "3fff::/20",  # documentation (RFC 9637); older Pythons do not know it
            "5f00::/16",  # segment routing (RFC 9602), likewise
            "fec0::/10",  # the former site-local addresses
        ),
    )
)


class NotPublic(Exception):
    """A host has an address that does not belong to the public internet."""

    def __init__(self, host: str) -> None:
        self.host = host[:255]
        super().__init__(
            f"the host {self.host} has an address that is not public; only public addresses are "
            "allowed, unless the endpoint has ALLOW_PRIVATE_INPUT_URLS=true"
        )


def is_public(address: Address) -> bool:
    """Tell whether an address belongs to the public internet.

    An IPv4 address inside an IPv6 one (mapped, NAT64, 6to4) is judged by itself.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _NEVER)
    )


def resolve(host: str, port: int, *, allow_private: bool, stop: Stop | None = None) -> list[str]:
    """Look up a host's addresses, each of which must be public.

    A name with a public and a private address is refused as a whole: no honest host has both.

    Args:
        host: A name or an address.
        port: Its port.
        allow_private: Take any address.
        stop: Ends the waiting for the name service.

    Raises:
        OSError: unknown name.
        NotPublic: an address that is not public.
        JobCancelled, TimedOut: as `stop` says.
    """
    addresses = _look_up(host, port, stop)
    if not allow_private and not all(is_public(ipaddress.ip_address(a)) for a in addresses):
        raise NotPublic(host)
    return addresses


def _look_up(host: str, port: int, stop: Stop | None) -> list[str]:
    """Ask the name service in a thread: nothing can end the question itself.

    A thread that is left behind ends by itself when the system gives up, after half a minute.
    """
    answer: Future[list[str]] = Future()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.set_result(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
        except (OSError, UnicodeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            answer.set_exception(OSError(f"the host {host[:255]} is not known: {reason}"))

    if stop is None:
        ask()
        return answer.result()
    threading.Thread(target=ask, name="resolve", daemon=True).start()
    while True:
        with suppress(TimeoutError):
            return answer.result(TICK_S)
        stop.check()
