"""The platform's cached models: repositories of the Hugging Face hub, already on the host.

Where they lie: https://docs.runpod.io/serverless/endpoints/model-caching. Each is a folder of the
hub's cache, `models--ORG--NAME/{refs/main,snapshots/REVISION}`, whose files are links to `blobs`;
or of RunPod's model store, `ORG/NAME/REVISION`, where users saw the files in either of two places.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from worker_comfyui.volume import hunyuan, walk
from worker_comfyui.volume.layout import WEIGHTS, Layout, endings

HUB = "huggingface-cache/hub"
MODEL_STORE = Path("/runpod/model-store/huggingface")
VARIANTS = Path(__file__).parents[2] / "models" / "variants.json"
"""The files of the images, with the folder that each belongs to."""

Destinations = Mapping[tuple[str, str], str]
"""(repository in lower case, path in it, empty for all of it) → path below a models folder."""


@dataclass(frozen=True)
class CachedModel:
    """A repository in the cache.

    Attributes:
        repository: `ORG/NAME`.
        snapshot: The folder of the revision in use; None if there is none.
        placed: Files or folders of the snapshot by the path that they belong to below a models
            folder (`vae/ae.safetensors`).
        left_out: Why other files that may be models are not placed, by their path.
    """

    repository: str
    snapshot: Path | None
    placed: Mapping[str, str]
    left_out: Mapping[str, str]


def find(
    layout: Layout,
    budget: walk.Budget,
    variants: Path = VARIANTS,
    model_store: Path = MODEL_STORE,
) -> list[CachedModel]:
    """Find all cached models, with the place of each of their files.

    Raises:
        OSError: the volume cannot be read.
    """
    folders = sorted((layout.root / HUB).glob("models--*"))
    there: dict[str, tuple[str, Path | None]] = {}
    for folder in filter(Path.is_dir, folders):
        repository = folder.name.removeprefix("models--").replace("--", "/")
        there[repository.lower()] = (repository, snapshot_of(folder))
    for repository, snapshot in _in_store(model_store):
        if there.get(repository.lower(), ("", None))[1] is None:
            there[repository.lower()] = (repository, snapshot)
    if not there:
        return []
    known = destinations(variants)
    return [_cached_model(*model, layout, known, budget) for model in there.values()]


def _in_store(model_store: Path) -> Iterator[tuple[str, Path]]:
    """Yield each repository of the model store, with its newest revision."""
    for folder in sorted(model_store.glob("*/*")):
        revisions = [path for path in folder.glob("*") if path.is_dir()]
        if revisions:
            newest = max(revisions, key=lambda path: (path.stat().st_mtime, path.name))
            inner = newest / "snapshots" / newest.name
            snapshot = inner if inner.is_dir() else newest
            yield f"{folder.parent.name}/{folder.name}", snapshot


def _cached_model(
    repository: str,
    snapshot: Path | None,
    layout: Layout,
    known: Destinations,
    budget: walk.Budget,
) -> CachedModel:
    if snapshot is None:
        return CachedModel(repository, None, {}, {})
    files: list[str] = []
    dangling: list[str] = []
    for path, entry in walk.files(snapshot, budget):
        (files if entry.is_file() else dangling).append(path)
    placed, left_out = place(repository, files, layout, known)
    for path in dangling:
        if PurePosixPath(path).suffix.lower() in WEIGHTS:
            left_out[path] = "a link that leads nowhere: the download is not complete"
    return CachedModel(repository, snapshot, placed, left_out)


def snapshot_of(folder: Path) -> Path | None:
    """Return the snapshot that refs/main names, else the newest; None if there is none."""
    snapshots = folder / "snapshots"
    try:
        revision = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        revision = ""
    # Hexadecimal, as the hub's commits are: nothing that leads elsewhere.
    if revision.isalnum() and (snapshots / revision).is_dir():
        return snapshots / revision
    try:
        with os.scandir(snapshots) as listing:
            found = [(e.stat().st_mtime, e.name) for e in listing if e.is_dir()]
    except OSError:
        return None
    return snapshots / max(found)[1] if found else None


def destinations(variants: Path) -> dict[tuple[str, str], str]:
    """Read where the files of the images' variants belong; nothing if there is no such list."""
    try:
        listed = json.loads(variants.read_text(encoding="utf-8"))["variants"].values()
    except FileNotFoundError:
        return {}
    return {
        (file["repository"].lower(), file.get("path", "")): file["destination"].rstrip("/")
        for variant in listed
        for file in variant.get("files", ())
    }


def place(
    repository: str, files: Iterable[str], layout: Layout, known: Destinations
) -> tuple[dict[str, str], dict[str, str]]:
    """Work out where the files of a repository belong below a models folder. Pure.

    Returns:
        What is placed (place → path in the repository, "." for all of it), and what is left out
        (path → reason).
    """
    files = sorted(files)
    name = PurePosixPath(repository).name
    whole = known.get((repository.lower(), ""))
    if whole is not None or hunyuan.is_instruct(name):
        return {whole or name: "."}, {}
    placed: dict[str, str] = {}
    left_out: dict[str, str] = {}
    is_pipeline = "model_index.json" in files
    if is_pipeline:
        placed[f"diffusers/{name}"] = "."
    for path in files:
        parts = PurePosixPath(path).parts
        destination = known.get((repository.lower(), path)) or _by_folder(parts, layout)
        if is_pipeline and len(parts) > 1:
            continue  # a part of the pipeline
        if destination:
            placed.setdefault(destination, path)
        elif PurePosixPath(path).suffix.lower() in WEIGHTS:
            left_out[path] = "its kind is not known: it lies in no folder that is named after one"
    return placed, left_out


def _by_folder(parts: tuple[str, ...], layout: Layout) -> str | None:
    """Return `KIND/NAME` for a path below a folder that is named after a kind."""
    for index, part in enumerate(parts[:-1]):
        kind = layout.kinds.get(part)
        if kind and PurePosixPath(parts[-1]).suffix.lower() in endings(kind):
            return "/".join((kind, *parts[index + 1 :]))
    return None
