"""Installs custom nodes into ComfyUI: `comfy-node-install NAME...`.

Every failure ends the program with exit code 1, so that a build stops: nothing half-installed is
left behind. At the end ComfyUI is started once, and must load them.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence

from node_packs.check import require_loaded
from node_packs.packages import custom_nodes, install_packages, run
from node_packs.sources import GitSource, NodeError, RegistrySource, parse


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
            run(f"{source.folder}: install.py", "install.py", folder=target)
    except NodeError:
        shutil.rmtree(target)
        raise
    # A cold worker has no bytecode but the image's.
    # Templates and tests of a pack may be no Python of this version: that is no failure.
    command = [sys.executable, "-m", "compileall", "-q", str(target)]
    subprocess.run(command, check=False)  # nosec B603  # Python itself
    print(f"Installed {source.folder}")


def add_check_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that leaves the start of ComfyUI out."""
    parser.add_argument(
        "--no-check",
        action="store_true",
        help="do not start ComfyUI afterwards: for nodes that cannot be imported without a GPU",
    )


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
    add_check_option(parser)
    chosen = parser.parse_args(arguments)
    try:
        for source in [parse(name) for name in chosen.names]:
            install(source)
        if not chosen.no_check:
            require_loaded()
    except NodeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
