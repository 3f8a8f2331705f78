"""Reads a request's body, within a size and a time."""

from __future__ import annotations

import asyncio

from aiohttp import web

from local_runpod.limits import MEBIBYTE
from local_runpod.web.problems import ProblemError


async def read_body(request: web.Request, limit: int, timeout_s: float) -> bytes:
    """Read a request's body.

    Raises:
        ProblemError: 400: it is larger than the limit, as the hosted service answers, not 413.
            408: it did not arrive in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            body = await _read(request, limit)
    except TimeoutError:
        raise ProblemError(
            408, f"the body did not arrive within {timeout_s:g} s", {"Connection": "close"}
        ) from None
    if body is None:
        raise ProblemError(400, f"bad request: body: exceeded max body size of {_size(limit)}")
    return body


async def _read(request: web.Request, limit: int) -> bytes | None:
    if (request.content_length or 0) > limit:
        return None
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


def _size(count: int) -> str:
    return f"{count // MEBIBYTE}MiB" if count % MEBIBYTE == 0 else f"{count // 1_000_000}MB"
