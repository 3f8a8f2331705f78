"""The ``/internal`` routes: logs and file lists; they have no twin under ``/api``."""

from __future__ import annotations

from aiohttp import web

from local_comfyui.routes import Routes
from local_comfyui.state import SERVER


async def logs(request: web.Request) -> web.Response:
    """``GET /internal/logs``: the last lines as one JSON string."""
    entries = request.app[SERVER].log.entries
    return web.json_response("".join(f"{entry['t']} - {entry['m']}" for entry in entries))


async def raw_logs(request: web.Request) -> web.Response:
    """``GET /internal/logs/raw``: the last lines with their times."""
    entries = list(request.app[SERVER].log.entries)
    return web.json_response({"entries": entries, "size": {"cols": 80, "rows": 24}})


async def files(request: web.Request) -> web.Response:
    """``GET /internal/files/{kind}``: names of a folder's files, the newest first."""
    folder = request.app[SERVER].folders.by_kind(request.match_info["kind"])
    if folder is None:
        return web.json_response({"error": "Invalid directory type"}, status=400)
    paths = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    paths.sort(key=lambda path: -path.stat().st_mtime)
    return web.json_response([path.name for path in paths])


ROUTES: Routes = [
    ("GET", "/internal/logs", logs),
    ("GET", "/internal/logs/raw", raw_logs),
    ("GET", "/internal/files/{kind}", files),
]
