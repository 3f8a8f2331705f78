"""The HTTP routes, one file per family; each has a ``ROUTES`` table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

Routes = list[tuple[str, str, Handler]]
"""Method, path, handler."""
