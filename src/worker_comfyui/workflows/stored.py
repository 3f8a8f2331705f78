"""Stored workflows: a name → a JSON file in one of some folders (WORKFLOWS_PATH)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from worker_comfyui.errors import InvalidRequest
from worker_comfyui.wording import cut, likely, listed

SUFFIX = ".json"
MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_NAME = 255
MAX_IN_MESSAGE = 200
"""Names that are looked through for a message."""
MAX_LISTED = 2_000
MAX_LOOKED_AT = 5_000
MAX_FOLDERS_DEEP = 4


class StoredWorkflows:
    """The workflows in some folders; of those with the same name, that of the first folder.

    Args:
        folders: Where they are; a folder that does not exist is empty.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = list(folders)

    def find(self, name: str, path: str = "workflow") -> Any:
        """Read a workflow by its name: `portrait`, `portrait.json` or `folder/portrait`.

        Raises:
            InvalidRequest: there is none of this name, or it cannot be read.
        """
        if not _is_name(name):
            others = "is neither JSON, base64 nor an http(s) URL"
            message = f"{cut(name)!r} {others}, nor the name of a stored workflow"
            raise InvalidRequest.at(path, message)
        for folder in self._folders:
            file = _inside(folder, name)
            if file is not None:
                return _read(file, name, path)
        raise InvalidRequest.at(path, self._unknown(name))

    def listing(self) -> dict[str, Any]:
        """Answer a job that asks what is stored: every name that `find` finds.

        Returns:
            `{"workflows": {"action": "list", "folders": [...], "names": [...]}}`, names sorted,
            and `errors` where there are more than `MAX_LISTED`.
        """
        names = self._names()
        found = [n for n in names[:MAX_LISTED] if any(_inside(f, n) for f in self._folders)]
        folders = [str(folder) for folder in self._folders]
        answer: dict[str, Any] = {
            "workflows": {"action": "list", "folders": folders, "names": found}
        }
        if len(names) > MAX_LISTED:
            answer["errors"] = [f"only the first {MAX_LISTED} stored workflows are listed"]
        return answer

    def _names(self) -> list[str]:
        found = {name for folder in self._folders for name in _names(folder)}
        return sorted(filter(_is_name, found))

    def _unknown(self, name: str) -> str:
        names = self._names()[:MAX_IN_MESSAGE]
        message = f"there is no stored workflow {cut(name)!r}"
        close = likely(name, names)
        if close:
            return f"{message}; did you mean {close!r}?"
        if names:
            return f"{message}; there are {listed(names)}"
        folders = " and ".join(str(folder) for folder in self._folders)
        return f"{message}: none are stored" + (f" in {folders}" if folders else "")


def _is_name(name: str) -> bool:
    """Tell whether a text may name a file below a folder, on any system."""
    if len(name) > MAX_NAME or not name.isprintable() or "\\" in name or ":" in name:
        return False
    return all(part.strip() not in {"", ".", ".."} for part in name.split("/"))


def _inside(folder: Path, name: str) -> Path | None:
    """Find a name's file, if it is really below the folder once links are followed."""
    file = folder / (name if name.endswith(SUFFIX) else f"{name}{SUFFIX}")
    try:
        real = file.resolve(strict=True)
        if real.is_relative_to(folder.resolve()) and real.is_file():
            return real
    except (OSError, RuntimeError, ValueError):  # absent, a loop of links, a name too long
        return None
    return None


def _read(file: Path, name: str, path: str) -> Any:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise InvalidRequest.at(path, f"the stored workflow {cut(name)!r} is too large")
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        raise InvalidRequest.at(path, f"the stored workflow {cut(name)!r} is not JSON") from None
    except OSError as error:
        why = error.strerror or "it cannot be read"
        raise InvalidRequest.at(
            path, f"the stored workflow {cut(name)!r} cannot be read: {why}"
        ) from None


def _names(folder: Path) -> Iterator[str]:
    looked_at = 0
    for above, folders, files in os.walk(folder):
        depth = len(Path(above).relative_to(folder).parts)
        # Hidden ones are copies that Jupyter and macOS leave, as a rule.
        open_ones = [name for name in folders if not name.startswith(".")]
        folders[:] = sorted(open_ones) if depth < MAX_FOLDERS_DEEP else []
        for file in sorted(files):
            looked_at += 1
            if looked_at > MAX_LOOKED_AT:
                return
            if file.endswith(SUFFIX) and not file.startswith("."):
                yield (Path(above).relative_to(folder) / file.removesuffix(SUFFIX)).as_posix()
