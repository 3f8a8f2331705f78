"""The list of variants: what each needs.

As a program it writes what a build of one variant does, so that each step of the build depends
on its own part of the list alone:

    python -m models.variants VARIANT FOLDER

makes FOLDER/files/1 to FOLDER/files/6, each with the `file.json` that it is to fetch or empty,
and FOLDER/nodes with `snapshot.json` and `node_classes.txt`, or empty.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIST = Path(__file__).with_name("variants.json")

MAX_FILES = 6
"""The Dockerfile has one stage, and the image one layer, for each."""


class UnknownVariantError(ValueError):
    """There is no variant of this name."""


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """One file, or a whole repository, of the Hugging Face hub and where it goes.

    `size` is in bytes: exact when `exact`, else for advice only. Without a `revision` the newest
    one is taken. Without a `path` it is the whole repository, and `destination` is a folder.
    """

    repository: str
    destination: str
    size: int
    exact: bool
    revision: str | None = None
    path: str | None = None
    gated: bool = False
    sha256: str | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ModelFile:
        """Read an entry of the list."""
        return cls(
            repository=data["repository"],
            destination=data["destination"],
            size=data.get("bytes") or data["bytes_about"],
            exact="bytes" in data,
            revision=data.get("revision"),
            path=data.get("path"),
            gated=data.get("gated", False),
            sha256=data.get("sha256"),
        )


def load(path: Path = LIST) -> dict[str, Any]:
    """Read the list: variants by name, as variants.schema.json describes them."""
    variants: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["variants"]
    return variants


def find(name: str, variants: dict[str, Any]) -> dict[str, Any]:
    """Return one variant.

    Raises:
        UnknownVariantError: naming those that there are.
    """
    if name not in variants:
        raise UnknownVariantError(f"There is no variant {name!r}; there are: {', '.join(variants)}")
    variant: dict[str, Any] = variants[name]
    return variant


def snapshot(variant: dict[str, Any]) -> dict[str, Any]:
    """Return the variant's custom nodes as ComfyUI-Manager's snapshot files name them."""
    nodes = variant.get("custom_nodes", [])
    return {
        "git_custom_nodes": {
            node["repository"]: {"hash": node["revision"], "disabled": False} for node in nodes
        },
        "pips": {package: "" for node in nodes for package in node.get("packages", [])},
    }


def write_plan(variant: dict[str, Any], folder: Path) -> None:
    """Write what to fetch and install, one folder for each step."""
    files = variant.get("files", [])
    if len(files) > MAX_FILES:
        raise ValueError(f"{len(files)} files, but the Dockerfile has stages for {MAX_FILES}")
    for number in range(1, MAX_FILES + 1):
        (folder / "files" / str(number)).mkdir(parents=True)
    for number, file in enumerate(files, start=1):
        (folder / "files" / str(number) / "file.json").write_text(json.dumps(file, sort_keys=True))
    (folder / "nodes").mkdir()
    if nodes := variant.get("custom_nodes"):
        classes = [name for node in nodes for name in node["node_classes"]]
        (folder / "nodes" / "snapshot.json").write_text(json.dumps(snapshot(variant)))
        (folder / "nodes" / "node_classes.txt").write_text("\n".join(classes))


def main() -> None:
    """Write the plan of the variant named on the command line."""
    name, folder = sys.argv[1:]
    try:
        write_plan(find(name, load()), Path(folder))
    except UnknownVariantError as error:
        sys.exit(f"MODEL_TYPE: {error}")


if __name__ == "__main__":
    main()
