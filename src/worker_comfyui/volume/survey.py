"""Which files of a volume ComfyUI can use, and why not the others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from worker_comfyui.volume import hunyuan, walk, weights
from worker_comfyui.volume.layout import FOLDER_KINDS, WEIGHTS, Layout

COMPANIONS = frozenset(
    {
        *(".txt", ".md", ".json", ".yaml", ".yml", ".info", ".html", ".sha256", ".metadata"),
        *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4", ".lock", ".py", ".gitignore"),
    }
)
"""Endings of what lies beside models: no user wonders why ComfyUI does not load it."""


@dataclass(slots=True)
class Kind:
    """What lies in the folders of one kind.

    Attributes:
        found: Size in bytes of each model, by its name in ComfyUI.
        ignored: Why other files are not used, by their path on the volume.
    """

    found: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Survey:
    """What lies on a volume."""

    kinds: dict[str, Kind]
    elsewhere: dict[str, str] = field(default_factory=dict)
    is_whole: bool = True


def survey(layout: Layout, budget: walk.Budget) -> Survey:
    """Look at the files of a volume, within the budget."""
    result = Survey({kind: Kind() for kind in layout.folders})
    for relative, entry in files(layout.root, budget):
        place = layout.split(relative)
        ending = PurePosixPath(relative).suffix.lower()
        if place is None:
            if (reason := _elsewhere(relative, ending, layout)) is not None:
                result.elsewhere[relative] = reason
            continue
        kind, name = place
        if kind in FOLDER_KINDS:
            if name.endswith("/model_index.json"):
                result.kinds[kind].found[str(PurePosixPath(name).parent)] = 0
            continue
        # A .yaml lies beside a checkpoint, and is itself what `configs` lists.
        if _is_companion(entry.name, ending) and weights.by_name(entry.name, kind):
            continue
        if reason := weights.problem(Path(entry.path), kind):
            result.kinds[kind].ignored[relative] = reason
        else:
            result.kinds[kind].found[name] = entry.stat().st_size
    result.is_whole = not budget.is_spent()
    return result


def _is_companion(name: str, ending: str) -> bool:
    return ending in COMPANIONS or name.startswith("put_")  # ComfyUI's own empty place holders


def files(root: Path, budget: walk.Budget) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the files of a volume: those in its models folder first."""

    def leave_out(path: str) -> bool:
        return hunyuan.is_instruct(PurePosixPath(path).name)

    for relative, entry in walk.files(root / "models", budget, leave_out=leave_out):
        yield f"models/{relative}", entry
    yield from walk.files(root, budget, leave_out=lambda path: path == "models" or leave_out(path))


def _elsewhere(relative: str, ending: str, layout: Layout) -> str | None:
    """Say where a file in no kind's folder belongs; None for what is no model."""
    if weights.is_partial(relative):
        is_model = PurePosixPath(relative).with_suffix("").suffix.lower() in WEIGHTS
        return "a partial download" if is_model or "/.cache/" in f"/{relative}" else None
    if ending not in WEIGHTS and ending != ".gguf":
        return None
    parts = PurePosixPath(relative).parts
    kind = next((layout.kinds[part] for part in reversed(parts[:-1]) if part in layout.kinds), None)
    if kind:
        return f"move it to {layout.folders[kind][0]}"
    if parts[0] == "models" and len(parts) > 2:
        return f"models/{parts[1]} is no folder of ComfyUI itself; a custom node may read it"
    return "move it to the folder of its kind, such as models/checkpoints or models/loras"
