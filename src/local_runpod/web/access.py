"""Who may ask: programs of this machine, and pages that these servers gave out themselves.

A web page of somebody else can send requests to this machine's ports, with its `Origin`. It can
also have its own name lead here (DNS rebinding), and then it is of the same origin and sends none
with a GET: so the `Host` counts too.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection

from aiohttp import web

from local_runpod.web.problems import ProblemError


def check_page(request: web.Request) -> None:
    """Refuse what a page of another origin sends.

    Raises:
        ProblemError: 403.
    """
    if not _is_safe_name(request.url.host or ""):
        raise ProblemError(
            403, "requests to this server by a domain name need an API key; use its address"
        )
    origin = request.headers.get("Origin")
    if origin and origin not in {f"http://{request.host}", f"https://{request.host}"}:
        raise ProblemError(403, "requests from pages of another origin need an API key")


def has_key(request: web.Request, keys: Collection[bytes]) -> bool:
    """Tell whether the request shows one of the keys, with or without `Bearer`."""
    shown = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
    # Header bytes that are no UTF-8 come as lone surrogates.
    return any(hmac.compare_digest(shown.encode(errors="surrogateescape"), key) for key in keys)


def _is_safe_name(host: str) -> bool:
    """Tell whether nobody else can have it lead here.

    These are addresses, `localhost`, and names without a dot: no public name is one, and
    containers call each other so.
    """
    if "." not in host.rstrip(".") and ":" not in host:
        return True
    if host.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
