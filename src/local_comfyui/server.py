"""The web application: which routes there are, under which prefixes, behind which guards."""

from __future__ import annotations

import ipaddress
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from local_comfyui.routes import Routes, files, information, internal, jobs, prompts
from local_comfyui.state import SERVER, Server


def application(server: Server) -> web.Application:
    """Build the application around a server's parts."""
    cors_origin = server.arguments.cors_origin
    guard: Middleware = allow_origin(cors_origin) if cors_origin else refuse_other_origins
    app = web.Application(
        client_max_size=server.arguments.max_upload_bytes, middlewares=[guard, empty_not_found]
    )
    app[SERVER] = server
    for family in (information.ROUTES, prompts.ROUTES, files.ROUTES):
        _add(app, family, "")
        _add(app, family, "/api")
    _add(app, jobs.ROUTES, "/api")
    _add(app, internal.ROUTES, "")
    return app


def _add(app: web.Application, routes: Routes, prefix: str) -> None:
    for method, path, handler in routes:
        if method == "GET":
            app.router.add_get(prefix + path, handler)  # answers HEAD too
        else:
            app.router.add_route(method, prefix + path, handler)


@web.middleware
async def empty_not_found(request: web.Request, handler: Handler) -> web.StreamResponse:
    """An unknown path gets 404 without a body, as ComfyUI's static files give it."""
    refusal = request.match_info.http_exception
    if refusal is not None and refusal.status == HTTPStatus.NOT_FOUND:
        return web.Response(status=404, content_type="application/octet-stream")
    return await handler(request)


@web.middleware
async def refuse_other_origins(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A page of another origin may not use a server on the loopback address: 403."""
    host, origin = request.headers.get("Host"), request.headers.get("Origin")
    if host and origin and _is_loopback(host):
        own, other = urlsplit(f"//{host}"), urlsplit(origin)
        same_port = own.port is None or other.port is None or own.port == other.port
        if other.hostname and (own.hostname != other.hostname or not same_port):
            return web.Response(status=403)
    return await handler(request)


def allow_origin(origin: str) -> Middleware:
    """Let pages of an origin use the server (``--enable-cors-header``)."""

    @web.middleware
    async def allow(request: web.Request, handler: Handler) -> web.StreamResponse:
        preflight = request.method == "OPTIONS"
        response = web.Response() if preflight else await handler(request)
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Methods"] = "POST, GET, DELETE, PUT, OPTIONS, PATCH"
        response.headers["Access-Control-Allow-Headers"] = "Content-Type, Authorization"
        response.headers["Access-Control-Allow-Credentials"] = "true"
        return response

    return allow


def _is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
