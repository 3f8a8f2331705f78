"""Where custom nodes come from: the Comfy registry, or a git repository."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

TIMEOUT_S = 60

_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class NodeError(Exception):
    """A custom node cannot be installed; the text says why and what to do."""


@dataclass(frozen=True)
class GitSource:
    """A repository at a revision: a commit, tag or branch; None: the newest commit."""

    url: str
    revision: str | None = None

    def __post_init__(self) -> None:
        """Refuse what names no folder, or would be an option of git."""
        _check_folder(self.url, self.folder)
        if self.revision is not None and not re.match(r"[A-Za-z0-9_.]", self.revision):
            raise NodeError(f"{self.url}: {self.revision!r} is no commit, tag or branch")

    @property
    def folder(self) -> str:
        """The name below custom_nodes."""
        return self.url.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git")

    def place(self, target: Path) -> None:
        """Check the revision out at `target`."""
        # Only the files of the revision: old ones would lie in the image's layer for nothing.
        partial = ("--filter=blob:none", "--also-filter-submodules", "--recurse-submodules")
        self._git("clone", "--quiet", *partial, "--", self.url, str(target))
        if self.revision:
            self._git("-C", str(target), "checkout", "--quiet", self.revision)
            self._git("-C", str(target), "submodule", "--quiet", "update", "--init", "--recursive")

    def _git(self, *arguments: str) -> None:
        # No question for a password where nobody can answer it.
        result = subprocess.run(  # nosec B603 B607  # git, with its options ended before the address
            ["git", *arguments],
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            at = f" at {self.revision}" if self.revision else ""
            raise NodeError(f"{self.url}{at}: {result.stderr.strip()}")


@dataclass(frozen=True)
class RegistrySource:
    """A node of the Comfy registry by its id; version None: the newest one."""

    id: str
    version: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is no id."""
        if "/" in self.id:
            raise NodeError(
                f"{self.id} is no id of https://registry.comfy.org: "
                f"a repository is named by its whole address, https://github.com/{self.id}"
            )
        _check_folder(self.id, self.id)

    @property
    def folder(self) -> str:
        """The name below custom_nodes."""
        return self.id

    def place(self, target: Path) -> None:
        """Unpack the version at `target`."""
        # What ComfyUI-Manager calls the newest commit; the registry has no archive of it.
        if self.version == "nightly":
            GitSource(str(_ask(self.id, f"/nodes/{quote(self.id)}")["repository"])).place(target)
            return
        query = f"?{urlencode({'version': self.version})}" if self.version else ""
        found = _ask(self.id, f"/nodes/{quote(self.id)}/install{query}")
        url = found.get("downloadUrl")
        if not url:
            raise NodeError(f"{self.id}: the registry names no download for it")
        _unpack(_get(self.id, str(url)), target)


def _check_folder(name: str, folder: str) -> None:
    """Refuse names that lead out of custom_nodes: what lies at the place of a node is replaced.

    Raises:
        NodeError: saying so.
    """
    if not _FOLDER.fullmatch(folder):
        raise NodeError(f"{name}: {folder!r} cannot be the name of a custom node's folder")


def parse(name: str) -> GitSource | RegistrySource:
    """Read `ID`, `ID@VERSION`, `URL` or `URL@REVISION`.

    Raises:
        NodeError: it is none of these.
    """
    if "://" in name or name.startswith("git@"):
        url, at, revision = name.rpartition("@")
        # Not the @ of git@host:OWNER/NAME or of a user.
        separated = at and ("://" in url or ":" in url) and "/" in url.split("://")[-1]
        return GitSource(url, revision) if separated else GitSource(name)
    node_id, _, version = name.partition("@")
    return RegistrySource(node_id, version or None)


def _ask(node_id: str, path: str) -> dict[str, Any]:
    registry = os.environ.get("COMFY_REGISTRY_URL", "https://api.comfy.org").rstrip("/")
    try:
        answer = json.loads(_get(node_id, registry + path))
    except json.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        raise NodeError(f"{node_id}: {registry} gave no usable answer")
    return answer


def _get(node_id: str, url: str) -> bytes:
    try:
        # S310: the addresses are the registry's own, which is https unless someone sets it.
        with urlopen(Request(url), timeout=TIMEOUT_S) as response:  # noqa: S310  # nosec B310
            body: bytes = response.read()
            return body
    except HTTPError as error:
        if error.code == 404:
            raise NodeError(
                f"{node_id}: the registry has no such node or version; "
                "look it up at https://registry.comfy.org, or give the address of its repository"
            ) from error
        raise NodeError(f"{node_id}: {url} answered {error.code}") from error
    except (URLError, TimeoutError) as error:
        raise NodeError(f"{node_id}: {url} cannot be reached ({error})") from error


def _unpack(archive: bytes, target: Path) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            opened.extractall(target)
    except zipfile.BadZipFile as error:
        raise NodeError(f"{target.name}: the registry's archive is damaged") from error
