"""The report of NETWORK_VOLUME_DEBUG: what is mounted, what of it ComfyUI finds, what not."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from worker_comfyui.config import Settings
from worker_comfyui.volume import cached_models, hunyuan, survey, walk
from worker_comfyui.volume.layout import Layout

log = logging.getLogger(__name__)

MAX_ENTRIES = 50_000
MAX_SECONDS = 20.0
MAX_SHOWN = 30
"""Files that are named in each part of the report; the rest are counted."""


def start(settings: Settings) -> None:
    """Log the report from a thread of its own, if it is wanted: nothing waits for the volume."""
    if settings.network_volume_debug:
        threading.Thread(
            target=log_report, args=(settings.runpod_volume_path,), name="report", daemon=True
        ).start()


def log_report(root: Path) -> None:
    """Log the report, a line each."""
    try:
        for line in lines(root):
            log.info("%s", line, extra={"event": "network_volume"})
    except OSError as error:
        log.warning("the network volume at %s cannot be read: %s", root, error)


def lines(root: Path) -> Iterator[str]:
    """Make the report of the volume at this path.

    Raises:
        OSError: it cannot be read.
    """
    if not root.is_dir():
        yield (
            f"network volume: none at {root}. Attach one to the endpoint, or set "
            "RUNPOD_VOLUME_PATH if it is mounted elsewhere"
        )
        return
    usage = shutil.disk_usage(root)
    yield (
        f"network volume: {root} ({_mount(root)}), {_size(usage.free)} free of {_size(usage.total)}"
    )
    layout = Layout.read(root)
    if not (root / "models").is_dir():
        there = ", ".join(sorted(path.name for path in root.iterdir())[:MAX_SHOWN]) or "nothing"
        yield f"there is no {root}/models, where models belong; there is: {there}"
    budget = walk.Budget(entries=MAX_ENTRIES, seconds=MAX_SECONDS)
    found = survey.survey(layout, budget)
    yield from _kinds(found.kinds, layout)
    yield from _ignored("lies where ComfyUI does not look", found.elsewhere)
    for name, folder in hunyuan.on_volume(root).items():
        yield f"Hunyuan: {name} ({folder.relative_to(root)})"
    yield from _cached(layout, budget)
    looked = f"looked at {budget.seen} files and folders in {budget.seconds:.1f} s"
    yield looked if found.is_whole else f"{looked}, and then stopped: there are more"


def _kinds(kinds: dict[str, survey.Kind], layout: Layout) -> Iterator[str]:
    empty = []
    for kind, content in kinds.items():
        if not content.found and not content.ignored:
            empty.append(kind)
            continue
        folders = ", ".join(layout.folders[kind])
        count, total = len(content.found), _size(sum(content.found.values()))
        yield f"{kind}: {count} found, {total} ({folders})"
        names = sorted(content.found.items())
        for name, size in names[:MAX_SHOWN]:
            yield f"  {name} ({_size(size)})" if size else f"  {name}"
        if count > MAX_SHOWN:
            yield f"  and {count - MAX_SHOWN} more"
        yield from _ignored("ignored", content.ignored)
    if empty:
        yield f"nothing for: {', '.join(empty)}"


def _ignored(word: str, files: dict[str, str]) -> Iterator[str]:
    for path, reason in sorted(files.items())[:MAX_SHOWN]:
        yield f"  {word}: {path}: {reason}"
    if len(files) > MAX_SHOWN:
        yield f"  {word}: {len(files) - MAX_SHOWN} more"


def _cached(layout: Layout, budget: walk.Budget) -> Iterator[str]:
    for model in cached_models.find(layout, budget):
        if model.snapshot is None:
            yield f"cached model {model.repository}: nothing is there yet"
            continue
        yield f"cached model {model.repository}, revision {model.snapshot.name}:"
        for place, path in list(model.placed.items())[:MAX_SHOWN]:
            yield f"  {place}" + (f" (its {path})" if path not in {place, "."} else "")
        yield from _ignored("ignored", dict(model.left_out))


def _mount(root: Path) -> str:
    """Name the file system, and whether it can be written, as far as Linux tells."""
    if not os.path.ismount(root):
        kind = "a plain folder: nothing is mounted there"
    else:
        kind = _file_system(Path("/proc/self/mounts"), root) or "mounted"
    return kind if os.access(root, os.W_OK) else f"{kind}, read-only"


def _file_system(mounts: Path, root: Path) -> str | None:
    try:
        text = mounts.read_text(errors="replace")
    except OSError:
        return None
    rows: Iterable[list[str]] = (line.split() for line in text.splitlines())
    kinds = [row[2] for row in rows if len(row) > 2 and row[1] == str(root.resolve())]
    return kinds[-1] if kinds else None  # the last one mounted there hides the others


def _size(size: int) -> str:
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"
