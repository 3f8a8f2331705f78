"""Installs Python packages into ComfyUI's environment without breaking what is there."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

from node_packs.sources import NodeError


def custom_nodes() -> Path:
    """Return ComfyUI's folder of custom nodes."""
    return Path(os.environ.get("COMFYUI_PATH", "/comfyui")) / "custom_nodes"


def comfyui_requirements() -> Path | None:
    """Return the file with what ComfyUI itself requires, PyTorch's exact versions included."""
    path = os.environ.get("PIP_CONSTRAINT")
    return Path(path) if path else None


def install_packages(what: str, *arguments: str) -> None:
    """Install packages, together with all that ComfyUI and its custom nodes require.

    pip does not look at the requirements of what is installed already, unless they are named: so
    they are, and what cannot be had together is an error instead of a broken ComfyUI.

    Args:
        what: Whose packages these are, for messages.
        arguments: For pip: requirements, or `--requirement FILE`.

    Raises:
        NodeError: they cannot be had together, or at all. Nothing was changed.
    """
    files = [comfyui_requirements(), *sorted(custom_nodes().glob("*/requirements.txt"))]
    present = [word for path in files if path for word in ("--requirement", str(path))]
    run(f"{what}: its Python packages", "-m", "pip", "install", *arguments, *present)


def run(what: str, *arguments: str, folder: Path | None = None) -> None:
    """Run a Python program in ComfyUI's environment; print which packages it changed.

    Raises:
        NodeError: it failed.
    """
    before = _versions()
    command = [sys.executable, *arguments]
    result = subprocess.run(command, cwd=folder, check=False)  # nosec B603  # whose pack is installed
    for line in changes(before, _versions()):
        print(line)
    if result.returncode:
        raise NodeError(f"{what} failed with exit code {result.returncode}; its output is above")


def changes(before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    """Say which packages have another version than before, or are gone."""
    for name, version in sorted(before.items()):
        if name not in after:
            yield f"removed: {name} {version}"
        elif after[name] != version:
            yield f"changed: {name} {version} to {after[name]}"


def _versions() -> dict[str, str]:
    # pip was another process.
    importlib.invalidate_caches()
    return {found.metadata["Name"]: found.version for found in distributions()}
