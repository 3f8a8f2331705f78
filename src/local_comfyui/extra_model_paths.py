"""Reads ComfyUI's ``extra_model_paths.yaml``: more folders in which models may lie."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

_LEGACY_KINDS = {"unet": "diffusion_models", "clip": "text_encoders"}


def read_all(files: Iterable[Path]) -> dict[str, tuple[Path, ...]]:
    """The folders of each kind of model, from several files.

    Raises:
        FileNotFoundError: A file does not exist.
        yaml.YAMLError: A file is no YAML.
    """
    folders: dict[str, tuple[Path, ...]] = {}
    for file in files:
        sections = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        for section in filter(None, sections.values()):
            for kind, folder in _folders(section, file.absolute().parent):
                folders[kind] = (*folders.get(kind, ()), folder)
    return folders


def _folders(section: dict[str, Any], beside: Path) -> Iterator[tuple[str, Path]]:
    """Kinds and folders; relative to ``base_path``, or else to the file's own folder."""
    base = beside / Path(os.path.expandvars(section.get("base_path") or "")).expanduser()
    for kind, paths in section.items():
        if kind not in ("base_path", "is_default"):
            for path in str(paths).split("\n"):  # a block scalar has one path per line
                if path:
                    yield _LEGACY_KINDS.get(kind, kind), base / path
