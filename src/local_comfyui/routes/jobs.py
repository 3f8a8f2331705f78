"""The jobs API of later releases (ComfyUI 0.6.0 and 0.26.0), only under ``/api``."""

from __future__ import annotations

import uuid
from typing import Any

from aiohttp import web

from local_comfyui.prompt import Json, QueueItem
from local_comfyui.prompt_queue import Finished, PromptQueue
from local_comfyui.routes import Routes
from local_comfyui.state import SERVER, Server

_STATUSES = ("pending", "in_progress", "completed", "failed", "cancelled")
_SORTS = ("created_at", "execution_duration")
_OUTCOMES = {
    "execution_success": "completed",
    "execution_error": "failed",
    "execution_interrupted": "cancelled",
}


async def list_jobs(request: web.Request) -> web.Response:
    """``GET /api/jobs``: all jobs, filtered, sorted, and a window of them."""
    query = request.query
    wanted = [name for name in query.get("status", "").split(",") if name]
    sort_by, order = query.get("sort_by", "created_at"), query.get("sort_order", "desc")
    if set(wanted) - set(_STATUSES):
        return _bad(f"Invalid status value(s). Valid values: {', '.join(_STATUSES)}")
    if sort_by not in _SORTS or order not in ("asc", "desc"):
        return _bad("sort_by must be created_at or execution_duration, sort_order asc or desc")
    try:
        limit = int(query["limit"]) if "limit" in query else None
        offset = max(0, int(query.get("offset", "0")))
    except ValueError:
        return _bad("limit and offset must be integers")
    jobs = [
        job for job in _all_jobs(request.app[SERVER].queue) if not wanted or job["status"] in wanted
    ]
    if "workflow_id" in query:
        jobs = [job for job in jobs if job.get("workflow_id") == query["workflow_id"]]
    jobs.sort(key=_creation if sort_by == "created_at" else _duration, reverse=order == "desc")
    shown = jobs[offset:] if limit is None else jobs[offset : offset + max(0, limit)]
    pagination = {
        "offset": offset,
        "limit": limit,
        "total": len(jobs),
        "has_more": offset + len(shown) < len(jobs),
    }
    return web.json_response({"jobs": shown, "pagination": pagination})


async def show_job(request: web.Request) -> web.Response:
    """``GET /api/jobs/{id}``: one job, with its outputs once it is finished."""
    job_id = request.match_info["job_id"]
    queue = request.app[SERVER].queue
    for finished in queue.finished():
        if finished.item.prompt_id == job_id:
            item = finished.item
            details = {
                "outputs": finished.result["outputs"],
                "execution_status": finished.result["status"],
                "workflow": {"prompt": item.prompt, "extra_data": item.extra_data},
            }
            return web.json_response({**_finished(finished), **details})
    for job in _unfinished_jobs(queue):
        if job["id"] == job_id:
            return web.json_response(job)
    return web.json_response({"error": "Job not found"}, status=404)


async def cancel_job(request: web.Request) -> web.Response:
    """``POST /api/jobs/{id}/cancel``: delete it while it waits, interrupt it while it runs."""
    cancelled = _cancel(request.app[SERVER], request.match_info["job_id"])
    return web.json_response({"cancelled": cancelled})


async def cancel_jobs(request: web.Request) -> web.Response:
    """``POST /api/jobs/cancel``: the same for ``{"job_ids": [...]}``."""
    try:
        body = await request.json()
    except ValueError:
        return _bad("Invalid JSON")
    job_ids = body.get("job_ids") if isinstance(body, dict) else None
    if not isinstance(job_ids, list):
        return _bad("job_ids must be a list")
    invalid = [job_id for job_id in job_ids if not _is_uuid(job_id)]
    if invalid:
        answer = {"error": "job_ids must be UUIDs", "invalid_ids": invalid}
        return web.json_response(answer, status=400)
    cancelled = [_cancel(request.app[SERVER], job_id) for job_id in job_ids]
    return web.json_response({"cancelled": any(cancelled)})


def _cancel(server: Server, job_id: str) -> bool:
    return server.queue.delete(job_id) or server.queue.if_running(job_id, server.interrupt.request)


def _bad(message: str) -> web.Response:
    return web.json_response({"error": message}, status=400)


def _is_uuid(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(uuid.UUID(value))
    except ValueError:
        return False


def _all_jobs(queue: PromptQueue) -> list[Json]:
    return [*map(_finished, queue.finished()), *_unfinished_jobs(queue)]


def _unfinished_jobs(queue: PromptQueue) -> list[Json]:
    waiting = [_job(item, "pending") for item in queue.pending()]
    return waiting + [_job(item, "in_progress") for item in queue.running()]


def _job(item: QueueItem, status: str) -> Json:
    """A job; what is not known of it is left out."""
    workflow = (item.extra_data.get("extra_pnginfo") or {}).get("workflow") or {}
    job = {
        "id": item.prompt_id,
        "status": status,
        "priority": item.number,
        "create_time": item.created,
        "workflow_id": workflow.get("id"),
    }
    return {name: value for name, value in job.items() if value is not None}


def _finished(finished: Finished) -> Json:
    messages = dict(finished.result["status"]["messages"])
    end = next(event for event in _OUTCOMES if event in messages)
    files = [
        {**file, "nodeId": node_id, "mediaType": kind}
        for node_id, output in finished.result["outputs"].items()
        for kind, files in output.items()
        for file in files
        if isinstance(file, dict) and "filename" in file
    ]
    job = {
        **_job(finished.item, _OUTCOMES[end]),
        "execution_start_time": messages["execution_start"]["timestamp"],
        "execution_end_time": messages[end]["timestamp"],
        "execution_error": messages.get("execution_error"),
        "outputs_count": len(files),
        "preview_output": files[0] if files else None,
    }
    return {name: value for name, value in job.items() if value is not None}


def _creation(job: Json) -> int:
    return int(job["create_time"])


def _duration(job: Json) -> int:
    return int(job.get("execution_end_time", 0) - job.get("execution_start_time", 0))


ROUTES: Routes = [
    ("GET", "/jobs", list_jobs),
    ("GET", "/jobs/{job_id}", show_job),
    ("POST", "/jobs/cancel", cancel_jobs),
    ("POST", "/jobs/{job_id}/cancel", cancel_job),
]
