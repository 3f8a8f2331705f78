"""What lies in ComfyUI's folders before a job is put aside, and comes back after it.

The folder in which it lies meanwhile is also the sign of a job: where it is found when a worker
starts, an earlier one was killed in the middle of a job, and `recover` clears up after it. A folder
that ends with its worker needs no sign.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from errno import EACCES, EBUSY, EPERM, EXDEV
from pathlib import Path, PurePosixPath

ASIDE = ".worker-comfyui-aside"
"""A folder within the folder itself: each move is a rename, also where it is a mount."""
STAGED = ".staged"
"""In it: the job may have put something into the folder by now. A list says what, if not all."""
LEFT = ".worker-comfyui-left"
"""What is being removed is called so."""
_NOT_OURS = {EACCES, EPERM, EBUSY}
"""The last one: another file system is mounted there."""


def begin(folder: Path) -> None:
    """Leave the sign of a job in a folder; one that is not there needs none."""
    with suppress(FileNotFoundError, FileExistsError):
        (folder / ASIDE).mkdir()


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
            _move(path, kept)


def _move(path: Path, to: Path) -> None:
    try:
        path.rename(to)
    except OSError as error:
        if error.errno != EXDEV:
            raise
        # A folder of an image's own layer: overlayfs renames files only.
        try:
            shutil.copytree(path, to, symlinks=True)
        except BaseException:
            shutil.rmtree(to, ignore_errors=True)  # else half of it would come back over the whole
            raise
        shutil.rmtree(path)


def put_all_aside(folder: Path) -> None:
    """Move all that lies in the folder out of the way; what another user has or mounted stays."""
    with suppress(FileNotFoundError):
        for name in os.listdir(folder):  # noqa: PTH208  # as in `Tree.of`
            if name == ASIDE:
                continue
            try:
                put_aside(folder, [name])
            except OSError as error:
                if error.errno not in _NOT_OURS:
                    raise


def note_staged(folder: Path, names: Iterable[str]) -> None:
    """Write down what is about to be put into a folder that has the sign of a job."""
    (folder / ASIDE / STAGED).write_text(json.dumps(sorted(names)))


def note_all_aside(folder: Path) -> None:
    """Write down that all that comes into a folder from now on is the job's."""
    with suppress(FileNotFoundError):
        (folder / ASIDE / STAGED).touch()


def bring_back(folder: Path) -> None:
    """Bring back what was put aside; the job's own files are gone already."""
    aside = folder / ASIDE
    with suppress(OSError):
        (aside / STAGED).unlink()
    try:
        aside.rmdir()  # most often nothing was there before
    except FileNotFoundError:
        return
    except OSError:
        _bring_all_back(folder, aside)


def _bring_all_back(folder: Path, aside: Path) -> None:
    # From the top: a folder whose place is free comes back as a whole.
    for path in sorted(aside.rglob("*"), key=lambda path: len(path.parts)):
        place = folder / path.relative_to(aside)
        if place.is_dir() and path.is_dir() and not path.is_symlink():
            continue  # what is in it comes by itself
        with suppress(OSError):  # it came back with its folder
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
    shutil.rmtree(aside, ignore_errors=True)


def recover(folder: Path, *, is_input: bool) -> None:
    """Clear up after a worker that was killed in the middle of a job.

    Args:
        folder: One that the operator named: it outlives its worker.
        is_input: Only what was staged is the job's there; elsewhere everything is, unless the
            worker was killed while it put things aside or brought them back.
    """
    aside = folder / ASIDE
    if not aside.is_dir():
        return
    with suppress(OSError):  # of a worker that was killed right here
        _remove(folder / LEFT)
    for name in _staged(aside) if is_input else _all_but(folder, aside):
        # What cannot be moved was not put aside, and is not the job's: a mounted disk, for one.
        with suppress(OSError):
            _remove((folder / name).rename(folder / LEFT))
    bring_back(folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()


def _staged(aside: Path) -> list[str]:
    with suppress(OSError, ValueError):
        return [str(name) for name in json.loads((aside / STAGED).read_text())]
    return []


def _all_but(folder: Path, aside: Path) -> list[str]:
    if not (aside / STAGED).exists():
        return []
    return [path.name for path in folder.iterdir() if path != aside]
