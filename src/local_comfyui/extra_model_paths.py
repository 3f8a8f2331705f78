"""Reads ComfyUI's ``extra_model_paths.yaml``: more folders in which models may lie.

No model is run here, but they are listed under ``/models`` and in loaders. Of YAML only what such a
file uses is understood: sections, ``key: path`` and ``key: |`` with one path per line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

_LEGACY_KINDS = {"unet": "diffusion_models", "clip": "text_encoders"}
_SETTINGS = ("base_path", "is_default")


def read_all(files: Iterable[Path]) -> dict[str, tuple[Path, ...]]:
    """The folders of each kind of model, from several files.

    Raises:
        FileNotFoundError: A file does not exist.
    """
    folders: dict[str, tuple[Path, ...]] = {}
    for file in files:
        for section in _sections(file.read_text(encoding="utf-8")):
            for kind, path in _folders(section, file.absolute().parent):
                folders[kind] = (*folders.get(kind, ()), path)
    return folders


def _sections(text: str) -> list[dict[str, list[str]]]:
    """Each section's keys with their values, line by line."""
    sections: list[dict[str, list[str]]] = []
    values: list[str] = []
    key_indent = 0
    for line in text.splitlines():
        content = line.split(" #")[0].rstrip()
        indent = len(content) - len(content.lstrip())
        stripped = content.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if indent == 0:
            sections.append({})
            key_indent = 0
        elif sections and (key_indent == 0 or indent <= key_indent):
            key, _, value = stripped.partition(":")
            values = sections[-1][key.strip()] = []
            key_indent = indent
            if value.strip() not in ("", "|", ">"):
                values.append(value.strip().strip("\"'"))
        else:
            values.append(stripped)
    return sections


def _folders(section: Mapping[str, list[str]], beside: Path) -> Iterator[tuple[str, Path]]:
    """Kinds and folders; relative to ``base_path``, or else to the file's own folder."""
    base = beside
    for given in section.get("base_path", ()):
        base = beside / Path(os.path.expandvars(given)).expanduser()
    for kind, paths in section.items():
        if kind not in _SETTINGS:
            for path in paths:
                yield _LEGACY_KINDS.get(kind, kind), base / path
