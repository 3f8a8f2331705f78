"""What ComfyUI is told, before it starts, about models outside its own folder."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from worker_comfyui.config import Settings
from worker_comfyui.volume import cached_models, fetched, hunyuan, walk
from worker_comfyui.volume.cached_models import CachedModel
from worker_comfyui.volume.layout import Layout

log = logging.getLogger(__name__)

MAX_ENTRIES = 20_000
MAX_SECONDS = 10.0
"""For the cached models: ComfyUI's start waits for them."""


class ModelPaths:
    """Keeps the file for `--extra-model-paths-config`, and the links to cached models it names."""

    def __init__(self, settings: Settings) -> None:
        self._volume = settings.runpod_volume_path
        self._fetched = fetched.locate(settings) if fetched.are_wanted(settings) else None
        self._folder: Path | None = None

    def prepare(self, models: Path) -> Path | None:
        """Look at the volume, and return the file for ComfyUI; None where it would say nothing.

        Args:
            models: ComfyUI's own models folder, for links that must lie there.
        """
        self.close()
        places = (self._volume, cached_models.MODEL_STORE)
        if not self._fetched and not any(place.is_dir() for place in places):
            return None
        try:
            return self._prepare(models)
        except OSError as error:  # ComfyUI may still have all that it needs
            log.warning("the models on %s cannot be used: %s", self._volume, error)
            return None

    def close(self) -> None:
        """Remove the file and the links."""
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _prepare(self, models: Path) -> Path:
        layout = Layout.read(self._volume)
        budget = walk.Budget(entries=MAX_ENTRIES, seconds=MAX_SECONDS)
        cached = cached_models.find(layout, budget)
        self._folder = Path(tempfile.mkdtemp(prefix="extra-model-paths-"))
        folders = hunyuan.on_volume(self._volume)
        linked: list[str] = []
        for model in cached:
            _log(model)
            for place, source in _targets(model):
                if "/" in place:
                    linked += _link(self._folder / "models", place, source)
                else:
                    folders.setdefault(place, source)
        hunyuan.make_links(hunyuan.links(folders), models, self._volume)
        path = self._folder / "extra_model_paths.yaml"
        sections = dict(_sections(layout, self._folder / "models", linked))
        if self._fetched:
            sections |= self._fetched.sections(layout.folders)
        path.write_text(config(sections), encoding="utf-8")
        return path


Section = tuple[Path, Mapping[str, Sequence[str]]]
"""A base path, and the folders below it by kind."""


def config(sections: Mapping[str, Section]) -> str:
    """Write the file, as YAML.

    Format: ComfyUI 0.3.64 utils/extra_config.py.
    """
    lines = (line for name, section in sections.items() for line in _section(name, *section))
    return "\n".join((*lines, ""))


def _sections(layout: Layout, links: Path, linked: Iterable[str]) -> Iterator[tuple[str, Section]]:
    if layout.root.is_dir():
        yield "network_volume", (layout.root.absolute(), layout.folders)
    kinds = sorted({PurePosixPath(place).parts[0] for place in linked})
    yield "cached_models", (links, {kind: (kind,) for kind in kinds})


def _section(name: str, base: Path, folders: Mapping[str, Sequence[str]]) -> Iterator[str]:
    if not folders:
        return
    yield f"{name}:"
    yield f"  base_path: {json.dumps(str(base))}"  # a text of JSON is one of YAML
    for kind, paths in folders.items():
        yield f"  {kind}: |"
        yield from (f"    {path}" for path in paths)


def _targets(model: CachedModel) -> list[tuple[str, Path]]:
    if model.snapshot is None:
        return []
    return [(place, model.snapshot / path) for place, path in model.placed.items()]


def _link(links: Path, place: str, source: Path) -> list[str]:
    path = links / place
    path.parent.mkdir(parents=True, exist_ok=True)
    inside = path.parent.resolve().is_relative_to(links.resolve())  # not in a model linked before
    if not inside or path.is_symlink() or path.exists():
        log.warning("%s is left out: another cached model has %s already", source, place)
        return []
    path.symlink_to(source.absolute())
    return [place]


def _log(model: CachedModel) -> None:
    extra = {"event": "cached_model", "repository": model.repository}
    if model.snapshot is None:
        log.warning("cached model %s: nothing is there yet", model.repository, extra=extra)
        return
    places = ", ".join(model.placed) or "nothing that ComfyUI can load"
    log.info("cached model %s: %s", model.repository, places, extra=extra)
    for path, reason in model.left_out.items():
        log.warning("cached model %s: %s: %s", model.repository, path, reason, extra=extra)
