"""Files of the hub that the platform keeps on its machines: they are used, not fetched again.

Two layouts (facts: https://docs.runpod.io/serverless/endpoints/model-caching and public workers):
the hub's own cache on the volume's path, and RunPod's model store.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from worker_comfyui.models.transfer.sources import Source
from worker_comfyui.volume.cached_models import HUB, MODEL_STORE, snapshot_of

log = logging.getLogger(__name__)

NEWEST = "main"


def find(source: Source, volume: Path, model_store: Path = MODEL_STORE) -> Path | None:
    """Return the cached file that a source means; None if it is not there as a whole.

    Args:
        source: Where the file is had.
        volume: Where the network volume is mounted.
        model_store: Where the model store is.
    """
    if not source.hub:
        return None
    repository, revision, path = source.hub
    try:
        files = (f / path for f in _folders(repository, revision, volume, model_store))
        return next((file for file in files if file.is_file()), None)
    except OSError as error:
        log.warning("the platform's cache of models cannot be read: %s", error)
        return None


def _folders(repository: str, revision: str, volume: Path, model_store: Path) -> Iterator[Path]:
    for folder in _same_name(volume / HUB, f"models--{repository.replace('/', '--')}"):
        if revision != NEWEST:
            yield folder / "snapshots" / revision
        elif snapshot := snapshot_of(folder):
            yield snapshot
    owner, _, name = repository.partition("/")
    for parent in _same_name(model_store, owner):
        for folder in _same_name(parent, name):
            for kept in _revisions(folder, revision):
                # Users saw the files in either place.
                yield from (kept, kept / "snapshots" / kept.name)


def _revisions(folder: Path, revision: str) -> list[Path]:
    if revision != NEWEST:
        return [folder / revision]
    with os.scandir(folder) as listing:
        found = [(entry.stat().st_mtime, entry.name) for entry in listing if entry.is_dir()]
    return [folder / name for _, name in sorted(found, reverse=True)]


def _same_name(parent: Path, name: str) -> list[Path]:
    """List the folders of a name, whatever its case: the store writes some in lower case."""
    try:
        with os.scandir(parent) as listing:
            return [Path(e.path) for e in listing if e.name.lower() == name.lower() and e.is_dir()]
    except OSError:
        return []
