"""Files: viewing results, uploading inputs (ComfyUI 0.3.64 ``server.py``)."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from aiohttp import web

from local_comfyui.folders import OutsideFolderError, inside, split_annotation
from local_comfyui.server import SERVER

ROUTES = web.RouteTableDef()

_NOT_SHOWN_IN_A_BROWSER = ("text/html", "application/xhtml+xml", "text/javascript", "text/css")


@ROUTES.get("/view")
async def view(request: web.Request) -> web.StreamResponse:
    """A file of the output, input or temp folder; without ComfyUI's re-encoding.

    Refusals have empty bodies: 404 without a name or a file, 400 for a bad name or type, 403 for a
    subfolder outside.
    """
    name, annotated_kind = split_annotation(request.query.get("filename", ""))
    kind = annotated_kind or request.query.get("type", "output")
    folder = request.app[SERVER].folders.by_kind(kind)
    if not name:
        return web.Response(status=404)
    if name.startswith("/") or ".." in name or folder is None:
        return web.Response(status=400)
    try:
        path = inside(inside(folder, request.query.get("subfolder", "")), Path(name).name)
    except OutsideFolderError:
        return web.Response(status=403)
    if not path.is_file():
        return web.Response(status=404)
    content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if content_type in _NOT_SHOWN_IN_A_BROWSER:
        content_type = "application/octet-stream"
    headers = {"Content-Type": content_type, "Content-Disposition": f'filename="{path.name}"'}
    return web.FileResponse(path, headers=headers)


@ROUTES.post("/upload/image")
async def upload_image(request: web.Request) -> web.Response:
    """Store a file; the answer names it, for the name may be a new one.

    Raises:
        TypeError, ValueError: The form is wrong in a way that ComfyUI answers with status 500.
    """
    fields = await request.post()
    image = fields.get("image")
    if image is None:
        return web.Response(status=400)
    if not isinstance(image, web.FileField):
        raise TypeError("the field 'image' is not a file")
    kind, subfolder = str(fields.get("type", "input")), str(fields.get("subfolder", ""))
    folder = request.app[SERVER].folders.by_kind(kind)
    if folder is None:
        raise ValueError(f"unknown type {kind!r}")
    try:
        target = inside(folder, Path(subfolder) / image.filename)
    except OutsideFolderError:
        return web.Response(status=400)
    target.parent.mkdir(parents=True, exist_ok=True)
    content = image.file.read()
    if fields.get("overwrite") not in ("true", "1"):
        target = _free_name(target, content)
    target.write_bytes(content)
    return web.json_response({"name": target.name, "subfolder": subfolder, "type": kind})


def _free_name(target: Path, content: bytes) -> Path:
    """The name itself if it is free or holds the same content, else ``name (1).ext`` and so on."""
    candidate, number = target, 1
    while candidate.exists() and candidate.read_bytes() != content:
        candidate = target.with_name(f"{target.stem} ({number}){target.suffix}")
        number += 1
    return candidate
