"""Whom a transfer may ask, and what it may show to each. Pure.

Every hop of a redirect is judged by itself, so a token never goes further than its own host.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from worker_comfyui.models.transfer.errors import Refused
from worker_comfyui.models.transfer.sources import (
    CIVITAI,
    CIVITAI_HOSTS,
    HUB,
    HUB_HOSTS,
)
from worker_comfyui.models.transfer.wording import shown

Connect = Callable[[str, int, float], socket.socket]
"""Connects to (host, port) within some seconds. It raises OSError, or Refused for an address
that may not be reached; the check is its own, and of the very address that it connects to."""


def connect_anywhere(host: str, port: int, timeout_s: float) -> socket.socket:
    """Connect without any check: for addresses that the operator names."""
    return socket.create_connection((host, port), timeout_s)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What proves who asks, for one host each. It never prints itself."""

    hub: str | None = field(default=None, repr=False)
    civitai: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the operator lets one transfer do.

    Attributes:
        trusted: `host` or `host:port` that the operator named: there a private address and plain
            http are allowed.
        hub: Where the Hugging Face hub is asked.
        civitai: Where Civitai is asked.
        connect: For hosts that are not trusted.
    """

    tokens: Tokens = Tokens()
    trusted: frozenset[str] = frozenset()
    hub: str = HUB
    civitai: str = CIVITAI
    connect: Connect = connect_anywhere

    def check(self, url: str) -> SplitResult:
        """Return the parts of a URL that may be asked.

        Raises:
            Refused: it may not be.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise Refused(f"{shown(url)} is not a valid URL") from None
        if not host or port == 0 or not host.isascii() or not url.isprintable():
            raise Refused(f"{shown(url)} is not a valid URL")
        trusted = self._trusts(parts)
        if parts.scheme != "https" and not (parts.scheme == "http" and trusted):
            raise Refused(f"{shown(url)}: models are fetched by https only")
        return parts

    def open(self, parts: SplitResult, timeout_s: float) -> socket.socket:
        """Connect to an address that was checked."""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        connect = connect_anywhere if self._trusts(parts) else self.connect
        return connect(parts.hostname or "", port, timeout_s)

    def _trusts(self, parts: SplitResult) -> bool:
        return parts.netloc in self.trusted or parts.hostname in self.trusted

    def is_hub(self, parts: SplitResult) -> bool:
        """Tell whether this is the hub itself, rather than what it redirects to."""
        return _is_one_of(parts, self.hub, HUB_HOSTS)

    def is_civitai(self, parts: SplitResult) -> bool:
        """Tell whether this is Civitai itself."""
        return _is_one_of(parts, self.civitai, CIVITAI_HOSTS)

    def token(self, parts: SplitResult) -> str | None:
        """Return the token that belongs to this address, if there is one."""
        if self.is_hub(parts):
            return self.tokens.hub
        if self.is_civitai(parts):
            return self.tokens.civitai
        return None


def _is_one_of(parts: SplitResult, own: str, hosts: frozenset[str]) -> bool:
    if f"{parts.scheme}://{parts.netloc}" == own:
        return True
    return parts.scheme == "https" and parts.hostname in hosts and parts.port in {None, 443}
