"""Prompts: submitting, the queue, interrupting, the history (ComfyUI 0.3.64 ``server.py``)."""

from __future__ import annotations

import logging
import time
import uuid
from typing import Any

from aiohttp import web

from local_comfyui.prompt import Json, QueueItem
from local_comfyui.routes import Routes
from local_comfyui.state import SERVER, Server
from local_comfyui.validation import validate

_log = logging.getLogger(__name__)

_SENSITIVE = ("auth_token_comfy_org", "api_key_comfy_org")


async def submit(request: web.Request) -> web.Response:
    """``POST /prompt``: validate a prompt and put it into the queue."""
    server = request.app[SERVER]
    body = await request.json()
    number = _number(server, body)
    if "prompt" not in body:
        return _refusal("no_prompt", "No prompt provided", "No prompt provided")
    prompt = body["prompt"]
    prompt_id = body.get("prompt_id")
    if prompt_id is None:
        prompt_id = str(uuid.uuid4())
    elif not _is_canonical_uuid(prompt_id):
        return _refusal(
            "invalid_prompt_id",
            "prompt_id must be a UUID, lowercase and with hyphens",
            f"received {prompt_id!r}",
        )
    verdict = validate(prompt, server.classes, body.get("partial_execution_targets"))
    if verdict.error is not None:
        _log.warning("invalid prompt: %s", verdict.error)
        answer = {"error": verdict.error, "node_errors": verdict.node_errors}
        return web.json_response(answer, status=400)
    extra_data = dict(body.get("extra_data") or {})
    if "client_id" in body:
        extra_data["client_id"] = body["client_id"]
    sensitive = {name: extra_data.pop(name) for name in _SENSITIVE if name in extra_data}
    now = int(time.time() * 1000)
    item = QueueItem(number, prompt_id, prompt, extra_data, verdict.outputs, sensitive, now)
    server.queue.put(item)
    return web.json_response(
        {"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors}
    )


def _number(server: Server, body: Json) -> float:
    """The place in the queue: given, or counted; the count goes up for refused prompts too."""
    if "number" in body:
        return float(body["number"])
    at_front = "front" in body and body["front"]
    number = -server.next_number if at_front else server.next_number
    server.next_number += 1
    return number


def _is_canonical_uuid(value: Any) -> bool:
    """The rule for ``prompt_id`` since 0.25.0; 0.3.64 takes anything."""
    if not isinstance(value, str):
        return False
    try:
        return str(uuid.UUID(value)) == value
    except ValueError:
        return False


def _refusal(kind: str, message: str, details: str) -> web.Response:
    error = {"type": kind, "message": message, "details": details, "extra_info": {}}
    return web.json_response({"error": error, "node_errors": {}}, status=400)


async def remaining(request: web.Request) -> web.Response:
    """``GET /prompt``: how many prompts wait or run."""
    return web.json_response(request.app[SERVER].queue_status())


async def show_queue(request: web.Request) -> web.Response:
    """``GET /queue``: what runs and what waits."""
    queue = request.app[SERVER].queue
    return web.json_response(
        {
            "queue_running": [item.as_list() for item in queue.running()],
            "queue_pending": [item.as_list() for item in queue.pending()],
        }
    )


async def change_queue(request: web.Request) -> web.Response:
    """``POST /queue``: ``{"delete": [ids]}``, ``{"clear": true}``; only waiting prompts."""
    queue = request.app[SERVER].queue
    body = await request.json()
    if body.get("clear"):
        queue.clear()
    for prompt_id in body.get("delete", []):
        queue.delete(prompt_id)
    return web.Response()


async def interrupt(request: web.Request) -> web.Response:
    """``POST /interrupt``: stop what runs, or only the prompt with this ``prompt_id``."""
    server = request.app[SERVER]
    try:
        body = await request.json()
    except ValueError:
        body = {}
    prompt_id = body.get("prompt_id")
    if prompt_id:
        server.queue.if_running(prompt_id, server.interrupt.request)
    else:
        server.interrupt.request()
    return web.Response()


async def free(request: web.Request) -> web.Response:
    """``POST /free``: with ``free_memory``, drop cached results; there are no models to unload."""
    body = await request.json()
    if body.get("free_memory"):
        request.app[SERVER].queue.request_free()
    return web.Response()


async def show_history(request: web.Request) -> web.Response:
    """``GET /history``: finished prompts; ``max_items`` and ``offset`` choose a window."""
    max_items = request.query.get("max_items")
    offset = request.query.get("offset")
    entries = request.app[SERVER].queue.history(
        None if max_items is None else int(max_items), -1 if offset is None else int(offset)
    )
    return web.json_response(entries)


async def show_history_of(request: web.Request) -> web.Response:
    """``GET /history/{prompt_id}``: one finished prompt, or ``{}``."""
    return web.json_response(request.app[SERVER].queue.history_of(request.match_info["prompt_id"]))


async def change_history(request: web.Request) -> web.Response:
    """``POST /history``: ``{"clear": true}``, ``{"delete": [ids]}``."""
    queue = request.app[SERVER].queue
    body = await request.json()
    if body.get("clear"):
        queue.clear_history()
    queue.delete_history(body.get("delete", []))
    return web.Response()


ROUTES: Routes = [
    ("POST", "/prompt", submit),
    ("GET", "/prompt", remaining),
    ("GET", "/queue", show_queue),
    ("POST", "/queue", change_queue),
    ("POST", "/interrupt", interrupt),
    ("POST", "/free", free),
    ("GET", "/history", show_history),
    ("GET", "/history/{prompt_id}", show_history_of),
    ("POST", "/history", change_history),
]
