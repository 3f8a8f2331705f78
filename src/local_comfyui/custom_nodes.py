"""Loads extra nodes as ComfyUI does: ``custom_nodes/*.py`` and packages, by their mappings."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Collection
from pathlib import Path

from local_comfyui.prompt import NodeClass

_log = logging.getLogger(__name__)


def load(folder: Path, only: Collection[str] | None = None) -> dict[str, NodeClass]:
    """Import every node file and package; one that fails is logged, and the others load.

    Args:
        folder: Where they lie.
        only: Load only files and packages of these names; None loads all.
    """
    found: dict[str, NodeClass] = {}
    sys.path.append(str(folder.parent))  # last: a module of the program's goes before
    for path in sorted(folder.iterdir()):
        is_module = path.suffix == ".py" or (path / "__init__.py").is_file()
        hidden = path.name.startswith((".", "__")) or path.suffix == ".disabled"
        if not is_module or hidden or (only is not None and path.name not in only):
            continue
        try:
            module = importlib.import_module(f"{folder.name}.{path.stem}")
        except Exception:  # noqa: BLE001 - a node file may raise anything; the others load
            _log.exception("Cannot import %s module for custom nodes", path)
            continue
        names = getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", None) or {}
        classes = getattr(module, "NODE_CLASS_MAPPINGS", None) or {}
        for name, node_class in classes.items():
            node_class.RELATIVE_PYTHON_MODULE = f"custom_nodes.{path.stem}"
            node_class.DISPLAY_NAME = names.get(name, name)
        found |= classes
        _log.info("Custom nodes of %s: %d", path, len(classes))
    return found
