"""HunyuanImage Instruct models on a volume, under the names that workflows give.

The loader of EricRollei/Comfy_HunyuanImage3 1.3.0 lists folders in ComfyUI's own models folder by
their plain names, and others as `NAME [PARENT]`; a workflow made with the plain name is then
refused. So each gets a link in ComfyUI's own models folder, and `NAME-v2`, the name of its
repository, beside it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)

PARENTS = ("models", "models/hunyuan", "models/hunyuan_instruct", ".")
"""Where such folders lie on a volume."""
KIND = "hunyuan_instruct"


def is_instruct(name: str) -> bool:
    """Tell whether the loader takes a folder of this name for a model."""
    lower = name.lower()
    return "hunyuan" in lower and "instruct" in lower and lower != KIND


def on_volume(root: Path) -> dict[str, Path]:
    """Find the folders on a volume, by name; the same name counts once."""
    found: dict[str, Path] = {}
    for parent in PARENTS:
        try:
            with os.scandir(root / parent) as listing:
                names = sorted(e.name for e in listing if is_instruct(e.name) and e.is_dir())
        except OSError:
            continue
        for name in names:
            found.setdefault(name, root / parent / name)
    return found


def links(folders: Mapping[str, Path]) -> dict[str, Path]:
    """Make the links by name: each folder's own, then the relative `NAME-v2`. Pure."""
    aliases = {f"{name}-v2": Path(name) for name in folders if not name.lower().endswith("-v2")}
    return {**folders, **{name: to for name, to in aliases.items() if name not in folders}}


def make_links(wanted: Mapping[str, Path], models: Path, volume: Path) -> None:
    """Make those links in the models folder that have no file, folder or link in their place."""
    if not wanted:
        return
    if models.resolve().is_relative_to(volume.resolve()):
        log.warning("%s lies on the volume, which others share: no links are made there", models)
        return
    for name, target in wanted.items():
        link = models / name
        if link.exists():
            continue
        if link.is_symlink():
            log.warning("%s is a link that leads nowhere: it is left as it is", link)
            continue
        try:
            models.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target, target_is_directory=True)
        except OSError as error:
            log.warning("%s could not be linked into %s: %s", target, models, error)
        else:
            log.info("linked %s to %s", link, target)
