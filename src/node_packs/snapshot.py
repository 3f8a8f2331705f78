"""Restores a snapshot of custom nodes: `restore-snapshot FILE`.

The file is what ComfyUI-Manager saves: `cnr_custom_nodes` (registry id to version),
`git_custom_nodes` (address to commit) and `pips` (exact packages, restored on demand only).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from node_packs.check import require_classes
from node_packs.install import custom_nodes, install, install_packages
from node_packs.sources import GitSource, NodeError, RegistrySource


def sources(snapshot: dict[str, Any]) -> list[GitSource | RegistrySource]:
    """List the custom nodes that are enabled in the snapshot."""
    registry = [
        RegistrySource(node_id, version)
        for node_id, version in snapshot.get("cnr_custom_nodes", {}).items()
    ]
    git = [
        GitSource(url, entry.get("hash"))
        for url, entry in snapshot.get("git_custom_nodes", {}).items()
        if not entry.get("disabled")
    ]
    return [*registry, *git]


def packages(snapshot: dict[str, Any], constraints: str) -> list[str]:
    """List the snapshot's packages, but for those that the image's constraints decide."""
    decided = {_package_name(line) for line in constraints.split()}
    return [name for name in snapshot.get("pips", {}) if _package_name(name) not in decided]


def _package_name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def _lone_files(snapshot: dict[str, Any]) -> list[str]:
    """List the single-file nodes that are missing: a snapshot only has their names."""
    return [
        entry["filename"]
        for entry in snapshot.get("file_custom_nodes", [])
        if not entry.get("disabled") and not (custom_nodes() / entry["filename"]).exists()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="restore-snapshot",
        description="Install the custom nodes that a ComfyUI-Manager snapshot names.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the snapshot, as JSON")
    parser.add_argument(
        "--packages", action="store_true", help="install the snapshot's Python packages first"
    )
    parser.add_argument(
        "--expect",
        type=Path,
        metavar="FILE",
        help="fail unless ComfyUI then has these node classes, one a line",
    )
    chosen = parser.parse_args(arguments)
    try:
        snapshot = json.loads(chosen.file.read_text(encoding="utf-8"))
        constraints = os.environ.get("PIP_CONSTRAINT")
        pinned = Path(constraints).read_text(encoding="utf-8") if constraints else ""
        if chosen.packages and (names := packages(snapshot, pinned)):
            install_packages("the snapshot", *names)
        for source in sources(snapshot):
            install(source)
        if chosen.expect:
            require_classes(chosen.expect.read_text(encoding="utf-8").split())
    except (NodeError, ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    for name in _lone_files(snapshot):
        print(f"note: {name} is a file of your own: copy it to {custom_nodes()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
