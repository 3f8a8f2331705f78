"""Where the models lie that the worker fetched by itself, and how ComfyUI is told of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from worker_comfyui.config import Settings

FOLDER = "fetched-models"
"""Beside the volume's own `models`, so that nobody's files are mixed up with the worker's."""
CONTAINER = "worker-comfyui-models"
CONTAINER_PARENT = Path("/var/tmp")  # noqa: S108  # nosec B108  # models are too large for a /tmp in memory
MODELS = "models"


@dataclass(frozen=True, slots=True)
class Location:
    """The folders of fetched models.

    Attributes:
        root: The store, which other workers may share. Its `models` has a folder for each kind.
        links: This worker's own: links to files that the platform cached on this machine.
    """

    root: Path
    links: Path

    @property
    def models(self) -> Path:
        """The folder of the kinds' folders."""
        return self.root / MODELS

    def sections(self, kinds: Iterable[str]) -> dict[str, tuple[Path, Mapping[str, tuple[str]]]]:
        """Return the sections of `extra_model_paths.yaml`: base path, and a folder by kind."""
        folders: Mapping[str, tuple[str]] = {kind: (kind,) for kind in kinds}
        return {
            "fetched_models": (self.models, folders),
            "fetched_links": (self.links, folders),
        }


def are_wanted(settings: Settings) -> bool:
    """Tell whether this worker may come to fetch or list models."""
    return bool(
        settings.model_catalog or settings.allow_model_downloads or settings.allow_model_jobs
    )


def locate(settings: Settings) -> Location:
    """Choose the folders: the network volume's where there is one that can be written."""
    links = Path(tempfile.gettempdir()) / f"{CONTAINER}-{os.getpid()}"
    if settings.model_store_path:
        return Location(settings.model_store_path.absolute(), links)
    # A volume may be mounted read-only.
    volume = settings.runpod_volume_path
    if volume.is_dir() and os.access(volume, os.W_OK):
        return Location(volume.absolute() / FOLDER, links)
    return Location(CONTAINER_PARENT / CONTAINER, links)
