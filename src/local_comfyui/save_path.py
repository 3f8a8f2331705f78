"""Where a saving node writes (ComfyUI 0.3.64 ``folder_paths.get_save_image_path``)."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from local_comfyui.folders import Folders, OutsideFolderError, inside

_NUMBER = re.compile(r"_(\d+)(?:_|\.|$)")


@dataclass(frozen=True)
class SavePath:
    """Where the files of one saving node go: ``folder/{stem}_{counter:05}_.ext``."""

    folder: Path
    subfolder: str
    kind: str
    stem: str
    counter: int

    def file(self, index: int, suffix: str) -> Path:
        """The file number ``index`` of this run."""
        stem = self.stem.replace("%batch_num%", str(index))
        return self.folder / f"{stem}_{self.counter + index:05}_.{suffix}"

    def item(self, path: Path) -> dict[str, str]:
        """How a node's ``ui`` names a file."""
        return {"filename": path.name, "subfolder": self.subfolder, "type": self.kind}


def save_path(folders: Folders, kind: str, prefix: str, size: tuple[int, int] = (0, 0)) -> SavePath:
    """Work out folder, stem and counter of a ``filename_prefix``, and create the folder.

    The prefix may hold a folder and ``%year% %month% %day% %hour% %minute% %second% %width%
    %height%``. The counter follows the highest one in the folder.

    Raises:
        OutsideFolderError: The prefix leads out of the folder.
    """
    folder = folders.temp if kind == "temp" else folders.output
    now = [f"{number:02}" for number in time.localtime()[:6]]
    fields = ("year", "month", "day", "hour", "minute", "second", "width", "height")
    for name, value in zip(fields, (*now, *map(str, size)), strict=True):
        prefix = prefix.replace(f"%{name}%", value)
    target = inside(folder, prefix)
    if target == folder.resolve():
        raise OutsideFolderError(f"{prefix!r} names no file in {folder}")
    target.parent.mkdir(parents=True, exist_ok=True)
    stem, subfolder = Path(prefix).name, "/".join(Path(prefix).parent.parts)
    alike = (path.name for path in target.parent.iterdir())
    alike = (name for name in alike if name[: len(stem)].lower() == stem.lower())
    used = [int(found[1]) for name in alike if (found := _NUMBER.match(name, len(stem)))]
    return SavePath(target.parent, subfolder, kind, stem, max(used, default=0) + 1)
