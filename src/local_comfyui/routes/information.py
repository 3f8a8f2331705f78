"""Information: node classes, models, features, the system (ComfyUI 0.3.64 ``server.py``)."""

from __future__ import annotations

import logging
import os
import sys

from aiohttp import web

from local_comfyui import COMFYUI_VERSION
from local_comfyui.prompt import Json, NodeClass, is_output_node
from local_comfyui.server import SERVER

ROUTES = web.RouteTableDef()

_log = logging.getLogger(__name__)

_PAGE = """<!doctype html><title>local_comfyui</title>
<p>This ComfyUI-compatible server runs no models and has no editor, only ComfyUI's routes and
websocket. <a href="object_info">These nodes</a> run here.</p>"""


@ROUTES.get("/")
async def index(_request: web.Request) -> web.Response:
    """A page that says what this is."""
    return web.Response(text=_PAGE, content_type="text/html")


@ROUTES.get("/ws")
async def socket(request: web.Request) -> web.StreamResponse:
    """The websocket."""
    server, executor = request.app[SERVER], request.app[SERVER].executor
    return await executor.sockets.serve(request, server.queue_status, executor.running_node)


@ROUTES.get("/object_info")
@ROUTES.get("/object_info/{name}")
async def object_info(request: web.Request) -> web.Response:
    """All node classes, or one, or ``{}``; a class whose description fails is left out."""
    wanted = request.match_info.get("name")
    described: Json = {}
    for name, node_class in request.app[SERVER].classes.items():
        if wanted in (None, name):
            try:
                described[name] = _description(name, node_class)
            except Exception:  # noqa: BLE001 - one broken class must not hide the others
                _log.exception("[ERROR] An error occurred while describing the node %r.", name)
    return web.json_response(described)


def _description(name: str, node_class: NodeClass) -> Json:
    """Describe a node class. A core node gives the recorded ``DEFINITION``, all but the inputs."""
    inputs = node_class.INPUT_TYPES()
    output = list(node_class.RETURN_TYPES)
    info: Json = {
        "input": inputs,
        "input_order": {section: list(declared) for section, declared in inputs.items()},
        "output": output,
        "output_is_list": list(getattr(node_class, "OUTPUT_IS_LIST", [False] * len(output))),
        "output_name": list(getattr(node_class, "RETURN_NAMES", output)),
        "name": name,
        "display_name": getattr(node_class, "DISPLAY_NAME", name),
        "description": getattr(node_class, "DESCRIPTION", ""),
        "python_module": getattr(node_class, "RELATIVE_PYTHON_MODULE", "nodes"),
        "category": getattr(node_class, "CATEGORY", "sd"),
        "output_node": is_output_node(node_class),
    }
    return {**info, **getattr(node_class, "DEFINITION", {}), "input": inputs}


@ROUTES.get("/node_replacements")
async def node_replacements(request: web.Request) -> web.Response:
    """What stands for old names of node classes (ComfyUI 0.33)."""
    return web.json_response(request.app[SERVER].replacements)


@ROUTES.get("/models")
async def models(request: web.Request) -> web.Response:
    """The kinds of models."""
    return web.json_response(request.app[SERVER].folders.model_kinds)


@ROUTES.get("/models/{kind}")
async def models_of(request: web.Request) -> web.Response:
    """The files of one kind; 404 for an unknown kind."""
    folders, kind = request.app[SERVER].folders, request.match_info["kind"]
    if kind not in folders.model_kinds:
        return web.Response(status=404)
    return web.json_response(folders.model_files(kind))


@ROUTES.get("/features")
async def features(request: web.Request) -> web.Response:
    """What the server can do."""
    return web.json_response(request.app[SERVER].features)


@ROUTES.get("/system_stats")
async def system_stats(_request: web.Request) -> web.Response:
    """Versions, memory, and the one device, which is the CPU."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = total
    if "SC_AVPHYS_PAGES" in os.sysconf_names:  # not on macOS
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    system: Json = {"os": os.name, "ram_total": total, "ram_free": free}
    system |= {"comfyui_version": COMFYUI_VERSION, "python_version": sys.version}
    for absent in ("required_frontend", "installed_templates", "required_templates"):
        system[f"{absent}_version"] = None
    system["pytorch_version"] = "none: local_comfyui runs no models"
    system |= {"embedded_python": False, "argv": sys.argv}
    device = {"name": "cpu", "type": "cpu", "index": None, "vram_total": total, "vram_free": free}
    device |= {"torch_vram_total": total, "torch_vram_free": free}
    return web.json_response({"system": system, "devices": [device]})
