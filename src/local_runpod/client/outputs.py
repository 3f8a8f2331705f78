"""Saves a result's files: under their own names, inside one folder, never over another file."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import IO, Any

import requests

from local_runpod.terminal import CONTROLS

LISTS = ("images", "videos", "audio", "files")
CHUNK = 1 << 20
TIMEOUT_S = (10.0, 120.0)
LONGEST_NAME = 120
ATTEMPTS = 10_000
WORKFLOW_NAME = "workflow.json"


class OutputError(RuntimeError):
    """An output that cannot be saved; the message names it."""


@dataclass(frozen=True)
class Saved:
    """A file that was written, or a text of the result."""

    path: Path
    bytes: int
    source: str


def save_outputs(output: Any, folder: Path) -> tuple[list[Saved], list[str]]:
    """Save everything that a result holds.

    Args:
        output: A job's `output`.
        folder: Where to; made if it is not there.

    Returns:
        The files, and a sentence for each output that could not be saved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    saved: list[Saved] = []
    problems: list[str] = []
    workflow = output.get("workflow") if isinstance(output, dict) else None
    if isinstance(workflow, dict):  # of a dry run, or asked for
        saved.append(_write([_json(workflow)], WORKFLOW_NAME, folder, "workflow"))
    for kind, item in _items(output):
        try:
            saved.append(_save(kind, item, folder))
        except OutputError as error:
            problems.append(str(error))
    if not saved and not problems and output not in (None, {}, []):
        saved.append(_write([_json(output)], "result.json", folder, "the whole result"))
    return saved, problems


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode(errors="replace")


def safe_name(name: Any, fallback: str) -> str:
    """Make a plain file name of whatever a result names: no folders, no tricks, not hidden."""
    # PureWindowsPath: it knows both kinds of separators, and drives.
    text = PureWindowsPath(name).name if isinstance(name, str) else ""
    text = re.sub(r'[<>:"/\\|?*]', "_", CONTROLS.sub("_", text)).strip(" .")
    stem, dot, suffix = text.rpartition(".")
    if dot and len(text) > LONGEST_NAME:
        text = stem[: LONGEST_NAME - len(suffix) - 1] + dot + suffix
    return text[:LONGEST_NAME] or fallback


def _items(output: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(output, dict):
        return
    for kind in (*LISTS, "texts"):
        items = output.get(kind)
        for item in items if isinstance(items, list) else []:
            if isinstance(item, dict) and item.get("type") == "same_as":
                continue  # its data stands in another list
            yield kind, item if isinstance(item, dict) else {"data": item, "text": item}


def _save(kind: str, item: Mapping[str, Any], folder: Path) -> Saved:
    if kind == "texts":
        name = safe_name(f"text-{item.get('node_id', '')}", "text").rstrip("-") + ".txt"
        return _write([str(item.get("text", "")).encode(errors="replace")], name, folder, "text")
    name = safe_name(item.get("filename"), f"{kind}-output")
    data = item.get("data")
    if not isinstance(data, str):
        raise OutputError(f"{name}: the result holds no data for it")
    if item.get("type") == "s3_url" or data.startswith(("http://", "https://")):
        return _download(data, name, folder)
    encoded = data.partition(",")[2] if data.startswith("data:") else data
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise OutputError(f"{name}: its data is not base64") from None
    return _write([content], name, folder, "base64")


def _download(url: str, name: str, folder: Path) -> Saved:
    if not url.startswith(("http://", "https://")):
        raise OutputError(f"{name}: its address is not http(s)")
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT_S) as response:
            response.raise_for_status()
            return _write(response.iter_content(CHUNK), name, folder, "bucket")
    except requests.HTTPError as error:
        raise OutputError(
            f"{name}: the bucket answered {error.response.status_code}; has the address expired?"
        ) from None
    except requests.RequestException as error:
        # The address is left out: its query is a credential.
        raise OutputError(f"{name}: download failed ({type(error).__name__})") from None


def _write(chunks: Any, name: str, folder: Path, source: str) -> Saved:
    path, file = _create(folder, name)
    size = 0
    try:
        with file:
            for chunk in chunks:
                size += file.write(chunk)
    except BaseException:
        path.unlink()
        raise
    return Saved(path, size, source)


def _create(folder: Path, name: str) -> tuple[Path, IO[bytes]]:
    """Open a new file: `picture.png`, or `picture-2.png` and so on where that exists."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - of a name, not of a path
    for number in itertools.islice(itertools.count(1), ATTEMPTS):
        path = folder / (name if number == 1 else f"{stem}-{number}{suffix}")
        try:
            return path, path.open("xb")
        except FileExistsError:
            continue
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror}") from None
    raise OutputError(f"{folder}: too many files named {name}")
