"""What lies in ComfyUI's folders before a job is put aside, and comes back after it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath

ASIDE = ".worker-comfyui-aside"
"""A folder within the folder itself: each move is a rename, also where it is a mount."""


def put_aside(folder: Path, names: Iterable[str]) -> None:
    """Move what has these relative names out of the way, or bars the way to them."""
    for name in names:
        for part in (*reversed(PurePosixPath(name).parents[:-1]), PurePosixPath(name)):
            path = folder / part
            is_way = path.is_dir() and not path.is_symlink() and str(part) != name
            if is_way or not (path.exists() or path.is_symlink()):
                continue
            kept = folder / ASIDE / part
            kept.parent.mkdir(parents=True, exist_ok=True)
            path.rename(kept)


def put_all_aside(folder: Path) -> None:
    """Move all that lies in the folder out of the way."""
    with suppress(FileNotFoundError):
        put_aside(folder, [path.name for path in folder.iterdir() if path.name != ASIDE])


def bring_back(folder: Path) -> None:
    """Bring back what was put aside. Works also after a worker that was killed meanwhile."""
    aside = folder / ASIDE
    if not aside.is_dir():
        return
    for path in sorted(aside.rglob("*"), key=lambda path: len(path.parts)):
        place = folder / path.relative_to(aside)
        if place.is_dir() and path.is_dir() and not path.is_symlink():
            continue  # what is in it comes by itself
        with suppress(OSError):  # it came back with its folder
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
    shutil.rmtree(aside, ignore_errors=True)
