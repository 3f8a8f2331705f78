"""Request files for people: a whole request, its input alone, or a plain workflow."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class RequestFileError(ValueError):
    """A file that cannot be sent; the message says why."""


def load_request(path: Path) -> dict[str, Any]:
    """Read a request, and wrap what is only a part of one.

    A workflow in the editor's format is sent too: the worker explains how to export the right one.

    Raises:
        RequestFileError: The file cannot be read, or is no JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise RequestFileError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise RequestFileError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise RequestFileError(f"{path}: must hold a JSON object")
    if isinstance(content.get("input"), dict):
        return content
    if isinstance(content.get("workflow"), dict):
        return {"input": content}
    return {"input": {"workflow": content}}


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
            try:
                data = base64.b64encode(path.read_bytes()).decode()
            except OSError as error:
                raise RequestFileError(f"{path}: {error.strerror}") from None
            others = [
                entry
                for entry in request["input"].get(field) or []
                if not (isinstance(entry, dict) and entry.get("name") == name)
            ]
            request["input"][field] = [*others, {"name": name, content_key: data}]


def _name_and_path(value: str) -> tuple[str, Path]:
    name, separator, path = value.partition("=")
    if separator and not Path(value).exists():
        return name, Path(path).expanduser()
    return Path(value).name, Path(value).expanduser()
