"""Loads extra nodes as ComfyUI does: ``custom_nodes/*.py`` and packages, by their mappings."""

from __future__ import annotations

import importlib.util
import logging
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from local_comfyui.prompt import NodeClass

_log = logging.getLogger(__name__)


@dataclass
class ExtraNodes:
    """What was found in a folder of extra nodes."""

    classes: dict[str, NodeClass] = field(default_factory=dict)
    display_names: dict[str, str] = field(default_factory=dict)


def load(folder: Path, only: Collection[str] | None = None) -> ExtraNodes:
    """Import every node file and package; one that fails is logged, and the others load.

    Args:
        folder: Where they lie.
        only: Load only files and packages of these names; None loads all.
    """
    found = ExtraNodes()
    for path in _candidates(folder):
        if only is not None and path.name not in only:
            continue
        started = time.perf_counter()
        try:
            module = _imported(path)
        except Exception:  # noqa: BLE001 - a node file may raise anything; the others load
            _log.exception("Cannot import %s module for custom nodes", path)
            continue
        classes = getattr(module, "NODE_CLASS_MAPPINGS", None)
        if not isinstance(classes, dict):
            _log.warning("Skip %s module for custom nodes due to the lack of nodes.", path)
            continue
        for name, node_class in classes.items():
            node_class.RELATIVE_PYTHON_MODULE = f"custom_nodes.{path.stem}"
            found.classes[name] = node_class
        found.display_names |= getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", None) or {}
        seconds = time.perf_counter() - started
        _log.info("Custom nodes of %s: %d (%.1f seconds)", path, len(classes), seconds)
    return found


def _candidates(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith((".", "__")) or path.suffix == ".disabled":
            continue
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            yield path


def _imported(path: Path) -> ModuleType:
    name = f"custom_nodes.{path.stem}"
    file = path if path.is_file() else path / "__init__.py"
    spec = importlib.util.spec_from_file_location(
        name, file, submodule_search_locations=None if path.is_file() else [str(path)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
