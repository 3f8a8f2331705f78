"""Loads extra nodes as ComfyUI does: ``custom_nodes/*.py`` and packages, by their mappings."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Collection
from pathlib import Path
from types import ModuleType

from local_comfyui.prompt import NodeClass

_log = logging.getLogger(__name__)


def load(folder: Path, only: Collection[str] | None = None) -> dict[str, NodeClass]:
    """Import every node file and package; one that fails is logged, and the others load.

    Args:
        folder: Where they lie.
        only: Load only files and packages of these names; None loads all.
    """
    found: dict[str, NodeClass] = {}
    for path in sorted(folder.iterdir()):
        is_module = path.suffix == ".py" or (path / "__init__.py").is_file()
        hidden = path.name.startswith((".", "__")) or path.suffix == ".disabled"
        if not is_module or hidden or (only is not None and path.name not in only):
            continue
        try:
            module = _imported(path)
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


def _imported(path: Path) -> ModuleType:
    name = f"custom_nodes.{path.stem}"
    file = path if path.is_file() else path / "__init__.py"
    places = None if path.is_file() else [str(path)]
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=places)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python module")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
