"""What lies in a folder, and removing what has come since."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from worker_comfyui.comfyui.process.aside import ASIDE


@dataclass(frozen=True, slots=True)
class Tree:
    """The content of a folder; links are entries of their own and are never followed.

    Attributes:
        files: Everything that is no folder, by its name relative to the folder, with `/`.
        folders: The same for folders, every one after the one that it lies in.
        has_aside: Whether it is a folder in which something may be put aside.
    """

    files: dict[str, Path] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    has_aside: bool = False

    @classmethod
    def of(cls, root: Path) -> Self:
        """List a folder, but what is put aside; one that cannot be listed is empty."""
        try:
            names = os.listdir(root)  # noqa: PTH208  # as quick as it gets: the next job waits
        except FileNotFoundError:
            return cls()
        except OSError:
            return cls(has_aside=True)
        if not names:  # most often: `os.walk` takes twice as long to find out
            return cls()
        tree = cls(has_aside=ASIDE in names)
        for place, folders, files in os.walk(root):
            if place == str(root) and ASIDE in folders:
                folders.remove(ASIDE)
            for name in files:
                path = Path(place, name)
                tree.files[path.relative_to(root).as_posix()] = path
            for name in list(folders):
                path = Path(place, name)
                group = tree.folders
                if path.is_symlink():
                    folders.remove(name)
                    group = tree.files
                group[path.relative_to(root).as_posix()] = path
        return tree

    def regular_files(self) -> dict[str, Path]:
        """Return the files with a content of their own; hidden ones are nodes' own business."""
        return {
            name: path
            for name, path in self.files.items()
            if not path.name.startswith(".") and _is_regular(path)
        }

    def remove(self, but: Tree) -> None:
        """Remove everything that the other tree does not have."""
        for name, path in self.files.items():
            if name not in but.files:
                with suppress(OSError):
                    path.unlink()
        for name, path in reversed(self.folders.items()):
            if name not in but.folders:
                with suppress(OSError):  # not empty: something could not be removed
                    path.rmdir()


def _is_regular(path: Path) -> bool:
    with suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False
