"""The content of a request's files: base64, data URI or URL → bytes, within the limits."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from io import BytesIO
from urllib.parse import unquote_to_bytes

from worker_comfyui.config import Settings
from worker_comfyui.errors import InputTooLarge, InvalidRequest, JobError
from worker_comfyui.job import InputFile
from worker_comfyui.media.images import MAX_FRAMES, READABLE, describe, is_intact
from worker_comfyui.request.download import Limits, download

MEGA = 1_000_000

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://")
_WHITESPACE = b" \t\r\n\v\f"
_URLSAFE = bytes.maketrans(b"-_", b"+/")
_FORMS = "must be base64, a data URI or an http(s) URL"


def read(file: InputFile, settings: Settings, cancelled: Callable[[], bool]) -> bytes:
    """Read one file of the request.

    Base64 may have line breaks, spaces, the URL-safe alphabet and no padding; anything else that
    is not base64 is refused.

    Raises:
        InvalidRequest: the data has none of the three forms, or is empty.
        InputTooLarge: more than MAX_INPUT_MB; seen before anything is decoded.
        InputUnavailable: the URL could not be downloaded within INPUT_URL_TIMEOUT_S.
        JobCancelled: `cancelled` became true.
    """
    try:
        data = _content(file.source.strip(), settings, cancelled)
        if not data:
            raise InvalidRequest("is empty")
    except JobError as error:
        raise _at(file, error) from error
    return data


def check_image(data: bytes, file: InputFile, settings: Settings) -> None:
    """Check that ComfyUI's LoadImage can be given this data; only headers are read.

    Raises:
        InvalidRequest: not an image, or visibly cut off or damaged.
        InputTooLarge: more pixels than MAX_INPUT_MEGAPIXELS, all frames together.
    """
    limit = int(settings.max_input_megapixels * MEGA)
    try:
        info = describe(BytesIO(data), max_pixels=limit)
        if info is None:
            raise InvalidRequest(_no_image(data))
        if info.pixels > limit or info.frames > MAX_FRAMES:
            frames = f" in {info.frames} frames" if info.frames > 1 else ""
            raise InputTooLarge(
                f"has {info.width} x {info.height} pixels{frames}, more than "
                f"{settings.max_input_megapixels:g} megapixels (MAX_INPUT_MEGAPIXELS) "
                f"or {MAX_FRAMES} frames"
            )
        if not is_intact(data):
            raise InvalidRequest("is an image, but it is cut off or damaged")
    except JobError as error:
        raise _at(file, error) from error


def _content(source: str, settings: Settings, cancelled: Callable[[], bool]) -> bytes:
    max_bytes = int(settings.max_input_mb * MEGA)
    if scheme := _SCHEME.match(source):
        if scheme[1].lower() not in {"http", "https"}:
            raise InvalidRequest(f"{_FORMS}; {scheme[1]} is not allowed")
        limits = Limits(max_bytes, settings.input_url_timeout_s, settings.allow_private_input_urls)
        return download(source, limits, cancelled)
    if source[:5].lower() == "data:":
        return _data_uri(source, max_bytes)
    return _base64(source, max_bytes)


def _data_uri(source: str, max_bytes: int) -> bytes:
    head, comma, body = source.partition(",")
    if not comma:
        raise InvalidRequest("is a data URI without a comma before its data")
    if head.lower().endswith(";base64"):
        if "%" in body:
            body = unquote_to_bytes(body).decode("latin-1")
        return _base64(body, max_bytes)
    if len(body) > 3 * max_bytes:
        raise _too_large(max_bytes)
    data = unquote_to_bytes(body)
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    return data


def _base64(source: str, max_bytes: int) -> bytes:
    try:
        text = source.encode("ascii").translate(_URLSAFE, _WHITESPACE).rstrip(b"=")
        if len(text) * 3 // 4 > max_bytes:
            raise _too_large(max_bytes)
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error):
        raise InvalidRequest(f"{_FORMS}, and it is none of them") from None


def _too_large(max_bytes: int) -> InputTooLarge:
    return InputTooLarge(f"has more than {max_bytes / MEGA:g} MB (MAX_INPUT_MB)")


def _no_image(data: bytes) -> str:
    start = data[:200].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a web page, not an image; use the address of the image itself"
    return (
        f"is not an image that ComfyUI can load ({', '.join(READABLE)}); "
        "other kinds of files belong in `files`"
    )


def _at(file: InputFile, error: JobError) -> JobError:
    """Add to an error the field of the request that it is about."""
    path = f"{file.path}.{file.field}"
    return type(error)(f"{path}: {error.message}", [{"path": path, "message": error.message}])
