"""Any file as a request: a whole one, its input, a workflow, a picture that holds a workflow."""

from __future__ import annotations

import base64
import json
import mimetypes
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class RequestFileError(ValueError):
    """What cannot be sent; the message says why."""


def load_request(path: Path) -> dict[str, Any]:
    """Read a request, and wrap what is only a part of one.

    A workflow is sent in whatever form it is, also embedded in a picture or another file: the
    worker finds and converts it.

    Raises:
        RequestFileError: The file cannot be read, or is a text but no JSON object.
    """
    content = _read(path)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        if _is_text(content):
            raise RequestFileError(f"{path} is not JSON: {error}") from None
        return {"input": {"workflow": _data_uri(path, content)}}
    if not isinstance(value, dict):
        raise RequestFileError(f"{path}: must hold a JSON object")
    if isinstance(value.get("input"), dict):
        return value
    if isinstance(value.get("workflow"), dict | str):
        return {"input": value}
    return {"input": {"workflow": value}}


def attach(
    request: dict[str, Any], *, images: Iterable[str] = (), files: Iterable[str] = ()
) -> None:
    """Put local files into a request, as `images` and `files`; one of the same name is replaced.

    Args:
        request: The request; changed.
        images: `name=path`, or a path alone, whose last part is then the name.
        files: The same for audio, video and anything else.

    Raises:
        RequestFileError: A file cannot be read.
    """
    for field, content_key, values in (("images", "image", images), ("files", "data", files)):
        for value in values:
            name, path = _name_and_path(value)
            data = base64.b64encode(_read(path)).decode()
            others = [
                entry
                for entry in request["input"].get(field) or []
                if not (isinstance(entry, dict) and entry.get("name") == name)
            ]
            request["input"][field] = [*others, {"name": name, content_key: data}]


def override(request: dict[str, Any], settings: Iterable[str]) -> None:
    """Put values for the workflow's inputs into a request, as `overrides`.

    Args:
        request: The request; changed.
        settings: `6.text=a cat`: node, input, and a value, which is read as JSON where it is some.

    Raises:
        RequestFileError: It has another form.
    """
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator or "." not in name.strip("."):
            raise RequestFileError(f"--set {setting}: write NODE.INPUT=VALUE, such as 6.text=cat")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        overrides = request["input"].get("overrides")
        request["input"]["overrides"] = {**(overrides or {}), name: value}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestFileError(f"{path}: {error.strerror}") from None


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def _data_uri(path: Path, content: bytes) -> str:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _name_and_path(value: str) -> tuple[str, Path]:
    name, separator, path = value.partition("=")
    if separator and not Path(value).exists():  # the name of a file may have a `=` of its own
        return name, Path(path).expanduser()
    return Path(value).name, Path(value).expanduser()
