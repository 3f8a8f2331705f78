"""Restores a snapshot of custom nodes: `restore-snapshot FILE`.

The file is what ComfyUI-Manager saves, as JSON or YAML: `cnr_custom_nodes` (registry id to
version), `git_custom_nodes` (address to commit), both also below `custom_nodes`, and `pips` (exact
packages, restored on demand only). Facts: comfyui_manager 4.3, glob/manager_core.py.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from node_packs.check import require_loaded
from node_packs.install import add_check_option, install
from node_packs.packages import comfyui_requirements, custom_nodes, install_packages
from node_packs.sources import GitSource, NodeError, RegistrySource


def read(text: str) -> dict[str, Any]:
    """Read a snapshot; what it lacks, or has as null, is empty.

    Raises:
        NodeError: it is no snapshot.
    """
    import yaml  # noqa: PLC0415  # ComfyUI's own; JSON is YAML

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise NodeError(f"the snapshot is neither JSON nor YAML: {error}") from error
    if not isinstance(document, dict):
        raise NodeError("the snapshot is empty, or no object")
    nested = document.get("custom_nodes")
    found = {**document, **nested} if isinstance(nested, dict) else document
    kinds = {"cnr_custom_nodes": dict, "git_custom_nodes": dict, "file_custom_nodes": list}
    if not {*kinds, "pips", "custom_nodes"} & found.keys():
        raise NodeError(f"the snapshot names no custom nodes: it has none of {', '.join(kinds)}")
    result = {}
    for name, kind in {**kinds, "pips": dict}.items():
        result[name] = found.get(name) or kind()
        if not isinstance(result[name], kind):
            shape = "an object" if kind is dict else "a list"
            raise NodeError(f"the snapshot's {name} must be {shape}")
    return result


def sources(snapshot: dict[str, Any]) -> list[GitSource | RegistrySource]:
    """List the custom nodes that are enabled in the snapshot.

    Raises:
        NodeError: one has no usable name or version.
    """
    registry = [
        RegistrySource(str(node_id), None if version in {None, "unknown"} else str(version))
        for node_id, version in snapshot["cnr_custom_nodes"].items()
    ]
    git = []
    for url, entry in snapshot["git_custom_nodes"].items():
        if not isinstance(entry, dict):
            raise NodeError(f"the snapshot's entry of {url} must be an object with a hash")
        if not entry.get("disabled"):
            git.append(GitSource(str(url), entry.get("hash")))
    return [*registry, *git]


def packages(snapshot: dict[str, Any], constraints: str) -> list[str]:
    """List the snapshot's packages, but for those of which the image decides the exact version."""
    decided = {_package_name(line) for line in constraints.split() if "==" in line}
    return [
        f"{name} @ {url}" if url else name
        for name, url in snapshot["pips"].items()
        if _package_name(name) not in decided
    ]


def _package_name(requirement: str) -> str:
    name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()  # PEP 503


def _lone_files(snapshot: dict[str, Any]) -> list[str]:
    """List the single-file nodes that are missing: a snapshot only has their names."""
    return [
        entry["filename"]
        for entry in snapshot["file_custom_nodes"]
        if not entry.get("disabled") and not (custom_nodes() / entry["filename"]).exists()
    ]


def _restore(text: str, *, with_packages: bool) -> None:
    snapshot = read(text)
    found = sources(snapshot)
    own = comfyui_requirements()
    constraints = own.read_text(encoding="utf-8") if own else ""
    if with_packages and (names := packages(snapshot, constraints)):
        install_packages("the snapshot", *names)
    for source in found:
        install(source)
    for name in _lone_files(snapshot):
        print(f"note: {name} is a file of your own: copy it to {custom_nodes()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="restore-snapshot",
        description="Install the custom nodes that a ComfyUI-Manager snapshot names.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the snapshot, as JSON or YAML")
    parser.add_argument(
        "--packages", action="store_true", help="install the snapshot's Python packages first"
    )
    parser.add_argument(
        "--expect",
        type=Path,
        metavar="FILE",
        help="fail unless ComfyUI then has these node classes, one a line",
    )
    add_check_option(parser)
    chosen = parser.parse_args(arguments)
    try:
        _restore(chosen.file.read_text(encoding="utf-8"), with_packages=chosen.packages)
        if not chosen.no_check:
            expected = chosen.expect.read_text(encoding="utf-8").split() if chosen.expect else ()
            require_loaded(expected)
    except (NodeError, ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
