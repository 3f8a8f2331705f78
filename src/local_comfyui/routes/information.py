"""Information: node classes, models, features, the system (ComfyUI 0.3.64 ``server.py``)."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from aiohttp import web

from local_comfyui import COMFYUI_VERSION
from local_comfyui.folders import MODEL_KINDS
from local_comfyui.object_info import describe
from local_comfyui.prompt import Json
from local_comfyui.routes import Routes
from local_comfyui.state import SERVER, Server

_log = logging.getLogger(__name__)

_PAGE = """<!doctype html>
<title>local_comfyui</title>
<h1>local_comfyui</h1>
<p>A ComfyUI-compatible server that runs no models. It has no editor; its HTTP routes and its
websocket are those of ComfyUI. <a href="object_info">These nodes</a> run here.</p>
"""


async def index(_request: web.Request) -> web.Response:
    """``GET /``: a page that says what this is."""
    return web.Response(text=_PAGE, content_type="text/html")


async def socket(request: web.Request) -> web.StreamResponse:
    """``GET /ws``: the websocket."""
    server = request.app[SERVER]
    return await server.sockets.serve(request, server.queue_status, server.running_node)


async def object_info(request: web.Request) -> web.Response:
    """``GET /object_info``: all node classes; one whose description fails is left out."""
    server = request.app[SERVER]
    described: Json = {}
    for name in server.classes:
        try:
            described[name] = _described(server, name)
        except Exception:  # noqa: BLE001 - one broken class must not hide the others
            _log.exception("[ERROR] An error occurred while describing the node %r.", name)
    return web.json_response(described)


async def object_info_of(request: web.Request) -> web.Response:
    """``GET /object_info/{class}``: one node class, or ``{}``."""
    server = request.app[SERVER]
    name = request.match_info["node_class"]
    known = name in server.classes
    return web.json_response({name: _described(server, name)} if known else {})


def _described(server: Server, name: str) -> Json:
    return describe(name, server.classes[name], server.display_names.get(name))


async def models(_request: web.Request) -> web.Response:
    """``GET /models``: the kinds of models."""
    return web.json_response(list(MODEL_KINDS))


async def models_of(request: web.Request) -> web.Response:
    """``GET /models/{kind}``: the files of one kind; 404 for an unknown kind."""
    kind = request.match_info["kind"]
    if kind not in MODEL_KINDS:
        return web.Response(status=404)
    return web.json_response(request.app[SERVER].folders.model_files(kind))


async def embeddings(request: web.Request) -> web.Response:
    """``GET /embeddings``: names without their extension."""
    names = request.app[SERVER].folders.model_files("embeddings")
    return web.json_response([str(Path(name).with_suffix("")) for name in names])


async def features(request: web.Request) -> web.Response:
    """``GET /features``: what the server can do."""
    return web.json_response(request.app[SERVER].features)


async def system_stats(_request: web.Request) -> web.Response:
    """``GET /system_stats``: versions, memory, and the one device, which is the CPU."""
    total, free = _memory()
    memory = dict.fromkeys(("vram_total", "torch_vram_total"), total)
    memory |= dict.fromkeys(("vram_free", "torch_vram_free"), free)
    return web.json_response(
        {
            "system": {
                "os": os.name,
                "ram_total": total,
                "ram_free": free,
                "comfyui_version": COMFYUI_VERSION,
                "required_frontend_version": None,
                "installed_templates_version": None,
                "required_templates_version": None,
                "python_version": sys.version,
                "pytorch_version": "none: local_comfyui runs no models",
                "embedded_python": False,
                "argv": sys.argv,
            },
            "devices": [{"name": "cpu", "type": "cpu", "index": None, **memory}],
        }
    )


def _memory() -> tuple[int, int]:
    """Total and free bytes of memory."""
    page = os.sysconf("SC_PAGE_SIZE")
    return page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")


ROUTES: Routes = [
    ("GET", "/", index),
    ("GET", "/ws", socket),
    ("GET", "/object_info", object_info),
    ("GET", "/object_info/{node_class}", object_info_of),
    ("GET", "/models", models),
    ("GET", "/models/{kind}", models_of),
    ("GET", "/embeddings", embeddings),
    ("GET", "/features", features),
    ("GET", "/system_stats", system_stats),
]
