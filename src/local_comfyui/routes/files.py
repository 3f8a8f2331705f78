"""Files: viewing results, uploading inputs and masks (ComfyUI 0.3.64 ``server.py``)."""

from __future__ import annotations

import hashlib
import io
import json
import mimetypes
from pathlib import Path

from aiohttp import web
from PIL import Image

from local_comfyui.folders import OutsideFolderError, inside, split_annotation
from local_comfyui.routes import Routes
from local_comfyui.state import SERVER

_NOT_SHOWN_IN_A_BROWSER = {
    "text/html",
    "text/html-sandboxed",
    "application/xhtml+xml",
    "text/javascript",
    "text/css",
}
_DEFAULT_PREVIEW_QUALITY = 90


async def view(request: web.Request) -> web.StreamResponse:
    """``GET /view``: a file of the output, input or temp folder, as it is or re-encoded.

    Refusals have empty bodies: 404 without a name or a file, 400 for a bad name or type, 403 for a
    subfolder outside.
    """
    path = _viewed_path(request)
    if isinstance(path, web.Response):
        return path
    disposition = {"Content-Disposition": f'filename="{path.name}"'}
    if "preview" in request.query:
        return _preview(path, request.query["preview"], request.query.get("channel", ""))
    channel = request.query.get("channel", "rgba")
    if channel in ("rgb", "a"):
        content = _png_channel(path, channel)
        return web.Response(body=content, content_type="image/png", headers=disposition)
    content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if content_type in _NOT_SHOWN_IN_A_BROWSER:
        content_type = "application/octet-stream"
    return web.FileResponse(path, headers={**disposition, "Content-Type": content_type})


def _viewed_path(request: web.Request) -> Path | web.Response:
    name, annotated_kind = split_annotation(request.query.get("filename", ""))
    if not name:
        return web.Response(status=404)
    if name.startswith("/") or ".." in name:
        return web.Response(status=400)
    kind = annotated_kind or request.query.get("type", "output")
    folder = request.app[SERVER].folders.by_kind(kind)
    if folder is None:
        return web.Response(status=400)
    try:
        place = inside(folder, request.query.get("subfolder", ""))
        path = inside(place, Path(name).name)
    except OutsideFolderError:
        return web.Response(status=403)
    return path if path.is_file() else web.Response(status=404)


def _preview(path: Path, wish: str, channel: str) -> web.Response:
    """Re-encode as ``webp`` or ``jpeg``, with ``;QUALITY``."""
    image_format, _, quality = wish.partition(";")
    if image_format not in ("webp", "jpeg") or "a" in channel:
        image_format = "webp"
    buffer = io.BytesIO()
    with Image.open(path) as image:
        wanted = image.convert("RGB") if image_format == "jpeg" or channel == "rgb" else image
        level = int(quality) if quality.isdigit() else _DEFAULT_PREVIEW_QUALITY
        wanted.save(buffer, format=image_format, quality=level)
    return web.Response(
        body=buffer.getvalue(),
        content_type=f"image/{image_format}",
        headers={"Content-Disposition": f'filename="{path.name}"'},
    )


def _png_channel(path: Path, channel: str) -> bytes:
    """The image without its alpha, or its alpha alone."""
    with Image.open(path) as image:
        if channel == "rgb":
            picture = image.convert("RGB")
        else:
            alpha = image.convert("RGBA").getchannel("A")
            picture = Image.new("RGBA", image.size)
            picture.putalpha(alpha)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


async def upload_image(request: web.Request) -> web.Response:
    """``POST /upload/image``: store a file; the answer names it, for the name may be a new one."""
    fields = await request.post()
    image = fields.get("image")
    if image is None:
        return web.Response(status=400)
    if not isinstance(image, web.FileField):
        raise TypeError("the field 'image' is not a file")
    kind = str(fields.get("type", "input"))
    folder = request.app[SERVER].folders.by_kind(kind)
    if folder is None:
        raise ValueError(f"unknown type {kind!r}")
    subfolder = str(fields.get("subfolder", ""))
    if not image.filename:
        return web.Response(status=400)
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
    digest = hashlib.sha256(content).digest()
    candidate, number = target, 1
    while candidate.exists():
        if hashlib.sha256(candidate.read_bytes()).digest() == digest:
            break
        candidate = target.with_name(f"{target.stem} ({number}){target.suffix}")
        number += 1
    return candidate


async def upload_mask(request: web.Request) -> web.Response:
    """``POST /upload/mask``: put an uploaded image's alpha onto the one named by ``original_ref``.

    As in ComfyUI, an original that is missing or refused still answers 200, and nothing is written.
    """
    fields = await request.post()
    image = fields.get("image")
    if image is None:
        return web.Response(status=400)
    if not isinstance(image, web.FileField) or not image.filename:
        raise TypeError("the field 'image' is not a file")
    folders = request.app[SERVER].folders
    kind = str(fields.get("type", "input"))
    subfolder = str(fields.get("subfolder", ""))
    answer = web.json_response({"name": image.filename, "subfolder": subfolder, "type": kind})
    reference = json.loads(str(fields["original_ref"]))
    name, annotated = split_annotation(reference["filename"])
    original_folder = folders.by_kind(annotated or reference.get("type", "output"))
    folder = folders.by_kind(kind)
    if folder is None or original_folder is None:
        return answer
    try:
        original = inside(original_folder, Path(reference.get("subfolder", "")) / name)
        target = inside(folder, Path(subfolder) / image.filename)
    except OutsideFolderError:
        return web.Response(status=400)
    if not original.is_file():
        return answer
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(original) as opened, Image.open(image.file) as mask:
        picture = opened.convert("RGBA")
        picture.putalpha(mask.convert("RGBA").getchannel("A"))
        picture.save(target, compress_level=4)
    return answer


ROUTES: Routes = [
    ("GET", "/view", view),
    ("POST", "/upload/image", upload_image),
    ("POST", "/upload/mask", upload_mask),
]
