"""`/v2/{endpoint}/{operation}/{argument}...`, or the same without `/v2/{endpoint}`.

Empty segments are tolerated: a base URL with a slash at its end gives `/v2//{endpoint}/run` in
RunPod's Python SDK.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from local_runpod.web.problems import ProblemError

log = logging.getLogger(__name__)

Handler = Callable[..., Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Operation:
    """What answers an operation: `handler(request, *arguments)`."""

    methods: str
    handler: Handler
    arguments: int = 0


@dataclass(frozen=True)
class Address:
    """A request's path, taken apart."""

    endpoint: str | None
    operation: str
    arguments: tuple[str, ...]

    @classmethod
    def of(cls, path: str) -> Address:
        """Take a path apart; `operation` is empty for the root."""
        segments = [segment for segment in path.split("/") if segment]
        endpoint = None
        if len(segments) > 2 and segments[0] == "v2":
            endpoint = segments[1]
            segments = segments[2:]
        return cls(endpoint, segments[0] if segments else "", tuple(segments[1:]))


Middleware = Callable[[web.Request, Address, Handler], Awaitable[web.StreamResponse]]


def application(operations: Mapping[str, Operation], around: Middleware) -> web.Application:
    """Make an application of operations; `around` is called with each request and its handler.

    Every error, expected or not, is answered with problem JSON.
    """

    async def handle(request: web.Request) -> web.StreamResponse:
        address = Address.of(request.path)
        try:
            operation = _find(operations, request.method, address)
            if request.method == "OPTIONS":  # a browser asks before it sends a page's request
                return web.Response(status=204, headers={"Allow": _allowed(operation)})
            return await around(request, address, operation.handler)
        except ProblemError as problem:
            return problem.response()
        except (asyncio.CancelledError, ConnectionError):  # the client is gone
            raise
        except Exception:
            log.exception("%s %s", request.method, request.path)
            return ProblemError(500, "internal server error").response()

    app = web.Application(client_max_size=0)  # no limit: `read_body` has its own
    app.router.add_route("*", "/{path:.*}", handle)
    return app


def _find(operations: Mapping[str, Operation], method: str, address: Address) -> Operation:
    operation = operations.get(address.operation)
    if operation is None or operation.arguments != len(address.arguments):
        raise ProblemError(404, f"no such path; there are: {_paths(operations)}")
    if method not in {"OPTIONS", *operation.methods.split()}:
        raise ProblemError(
            405,
            f"/{address.operation} takes {operation.methods.replace(' ', ' and ')}, not {method}",
            {"Allow": _allowed(operation)},
        )
    return operation


def _allowed(operation: Operation) -> str:
    return operation.methods.replace(" ", ", ")


def _paths(operations: Mapping[str, Operation]) -> str:
    return ", ".join(f"/{name}{'/ID' * op.arguments}" for name, op in operations.items())
