"""The web application: the parts of one running server, its routes, and the guard before them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from local_comfyui.executor import Executor
from local_comfyui.folders import Folders
from local_comfyui.prompt import Json, NodeClasses, Replacements
from local_comfyui.prompt_queue import PromptQueue


@dataclass
class Server:
    """What the routes work with."""

    folders: Folders
    classes: NodeClasses
    replacements: Replacements
    features: Json
    queue: PromptQueue
    executor: Executor
    next_number: int = 0

    def queue_status(self) -> Json:
        """The content of a ``status`` frame and of ``GET /prompt``."""
        return {"exec_info": {"queue_remaining": self.queue.remaining()}}


SERVER = web.AppKey("server", Server)


def application(server: Server, *routes: web.RouteTableDef) -> web.Application:
    """Build the application around a server's parts."""
    upload_bytes = server.features["max_upload_size"]
    app = web.Application(client_max_size=upload_bytes, middlewares=[refuse_other_origins])
    app[SERVER] = server
    for table in routes:
        app.add_routes(table)
    app.router.add_get("/{unknown:.*}", not_found)
    return app


async def not_found(_request: web.Request) -> web.Response:
    """An unknown path gets 404 without a body, as ComfyUI's static files give it."""
    return web.Response(status=404, content_type="application/octet-stream")


@web.middleware
async def refuse_other_origins(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Pages of other origins may not use the server: 403."""
    origin = request.headers.get("Origin")
    if origin and urlsplit(origin).netloc != request.host:  # ComfyUI: on loopback only
        return web.Response(status=403)
    return await handler(request)
