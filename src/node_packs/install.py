"""Installs custom nodes into ComfyUI: `comfy-node-install NAME...`.

Every failure ends the program with exit code 1, so that a build stops: nothing half-installed is
left behind.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from node_packs.sources import GitSource, NodeError, RegistrySource, parse


def custom_nodes() -> Path:
    """Return ComfyUI's folder of custom nodes."""
    return Path(os.environ.get("COMFYUI_PATH", "/comfyui")) / "custom_nodes"


def install(source: GitSource | RegistrySource) -> None:
    """Install one custom node with its packages; one that is there already is replaced.

    Raises:
        NodeError: it could not be had, or its packages or install script failed.
    """
    target = custom_nodes() / source.folder
    incoming = target.with_name(f".{source.folder}.incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        source.place(incoming)
        requirements = incoming / "requirements.txt"
        if requirements.exists():
            install_packages(source.folder, "--requirement", str(requirements))
        shutil.rmtree(target, ignore_errors=True)
        incoming.rename(target)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    try:
        if (target / "install.py").exists():
            _run(f"{source.folder}: install.py", "install.py", folder=target)
    except NodeError:
        shutil.rmtree(target)
        raise
    # A cold worker has no bytecode but the image's.
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(target)], check=False)
    print(f"Installed {source.folder}")


def install_packages(what: str, *arguments: str) -> None:
    """Install Python packages into ComfyUI's environment, under the image's constraints.

    Raises:
        NodeError: pip failed.
    """
    _run(f"{what}: its Python packages", "-m", "pip", "install", *arguments)


def _run(what: str, *arguments: str, folder: Path | None = None) -> None:
    result = subprocess.run([sys.executable, *arguments], cwd=folder, check=False)
    if result.returncode:
        raise NodeError(f"{what} failed with exit code {result.returncode}; its output is above")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="comfy-node-install",
        description="Install custom nodes into the image's ComfyUI.",
    )
    parser.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="an id of https://registry.comfy.org or a git address, either with @VERSION",
    )
    for name in parser.parse_args(arguments).names:
        try:
            install(parse(name))
        except NodeError as error:
            sys.stderr.write(f"error: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
