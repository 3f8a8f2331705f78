"""Prompts: submitting, the queue, interrupting, the history (ComfyUI 0.3.64 ``server.py``)."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from aiohttp import web

from local_comfyui.prompt import Json, QueueItem
from local_comfyui.server import SERVER
from local_comfyui.validation import refusal, validate

ROUTES = web.RouteTableDef()

_log = logging.getLogger(__name__)

_SENSITIVE = ("auth_token_comfy_org", "api_key_comfy_org")


@ROUTES.post("/prompt")
async def submit(request: web.Request) -> web.Response:
    """Validate a prompt and put it into the queue."""
    server = request.app[SERVER]
    body = await request.json()
    number = server.next_number
    server.next_number += 1  # for refused prompts too
    if "prompt" not in body:
        return _refused(refusal("no_prompt", "No prompt provided", "No prompt provided"))
    prompt_id = body.get("prompt_id") or str(uuid.uuid4())
    if body.get("prompt_id") is not None and not _is_canonical_uuid(body["prompt_id"]):
        message = "prompt_id must be a UUID, lowercase and with hyphens"
        details = f"received {body['prompt_id']!r}"
        return _refused(refusal("invalid_prompt_id", message, details))
    verdict = validate(body["prompt"], server.classes)
    if verdict.error is not None:
        return _refused(verdict.error, verdict.node_errors)
    extra_data = dict(body.get("extra_data") or {})
    if "client_id" in body:
        extra_data["client_id"] = body["client_id"]  # history shows it there
    sensitive = {name: extra_data.pop(name) for name in _SENSITIVE if name in extra_data}
    item = QueueItem(number, prompt_id, body["prompt"], extra_data, verdict.outputs, sensitive)
    server.queue.put(item)
    answer = {"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors}
    return web.json_response(answer)


def _refused(error: Json, node_errors: Json | None = None) -> web.Response:
    _log.warning("invalid prompt: %s", error)
    return web.json_response({"error": error, "node_errors": node_errors or {}}, status=400)


def _is_canonical_uuid(value: Any) -> bool:
    """The rule for ``prompt_id`` since 0.25.0; 0.3.64 takes anything."""
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value
    except ValueError:
        return False


@ROUTES.get("/prompt")
async def remaining(request: web.Request) -> web.Response:
    """How many prompts wait or run."""
    return web.json_response(request.app[SERVER].queue_status())


@ROUTES.get("/queue")
async def show_queue(request: web.Request) -> web.Response:
    """What runs and what waits."""
    return web.json_response(request.app[SERVER].queue.as_lists())


@ROUTES.post("/queue")
async def delete_from_queue(request: web.Request) -> web.Response:
    """``{"delete": [ids]}``; only waiting prompts."""
    for prompt_id in (await request.json()).get("delete", []):
        request.app[SERVER].queue.delete(prompt_id)
    return web.Response()


@ROUTES.post("/interrupt")
async def interrupt(request: web.Request) -> web.Response:
    """Stop what runs, or only the prompt with this ``prompt_id``."""
    server = request.app[SERVER]
    try:
        body = await request.json()
    except ValueError:
        body = {}
    prompt_id = body.get("prompt_id")
    if prompt_id:
        server.queue.if_running(prompt_id, server.executor.interrupt.set)
    else:
        server.executor.interrupt.set()
    return web.Response()


@ROUTES.get("/history")
@ROUTES.get("/history/{prompt_id}")
async def show_history(request: web.Request) -> web.Response:
    """Finished prompts, or one of them, or ``{}``."""
    queue = request.app[SERVER].queue
    return web.json_response(queue.history(request.match_info.get("prompt_id")))


@ROUTES.post("/history")
async def delete_from_history(request: web.Request) -> web.Response:
    """``{"delete": [ids]}``, ``{"clear": true}``."""
    queue, body = request.app[SERVER].queue, await request.json()
    queue.delete_history(list(queue.history()) if body.get("clear") else body.get("delete", []))
    return web.Response()
