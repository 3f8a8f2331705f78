"""What the editor loads, and what the editor itself exported (test_resources/editor/README.md)."""

from __future__ import annotations

import json
import lzma
from datetime import datetime
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from worker_comfyui.job import Workflow
from worker_comfyui.workflows.editor.convert import Circumstances, Conversion, convert

RESOURCES = Path(__file__).resolve().parents[3] / "test_resources" / "editor"
NOW = datetime(2026, 11, 25, 21, 4, 7).astimezone()
GROUPS = ("rules", "templates")

_BROWSER_ONLY = {"Load3D": "image", "LoadImageOutput": "image"}
"""Inputs whose values only the browser knows."""


@cache
def load(name: str) -> dict[str, Any]:
    """Read a file of the resources."""
    content: dict[str, Any] = json.loads(
        lzma.decompress((RESOURCES / f"{name}.json.xz").read_bytes())
    )
    return content


@cache
def names() -> list[str]:
    """Name all pairs."""
    return [name for group in GROUPS for name in load(group)]


def pair(name: str) -> tuple[dict[str, Any], Workflow]:
    """Return the editor's file and its export."""
    found = next(load(group)[name] for group in GROUPS if name in load(group))
    return found["editor"], found["api"]


@cache
def object_info(name: str = "") -> dict[str, Any]:
    """Return the classes that a pair was made with."""
    core = load("object_info")
    if name.startswith("fake."):
        return core | load("object_info_invented")
    return core | load("object_info_packs") if name.startswith("pack.") else core


def converted(name: str, *, queued: bool = False) -> Conversion:
    """Convert a pair's file."""
    return convert(pair(name)[0], object_info(name), circumstances(queued=queued))


def circumstances(*, queued: bool = True, seed: int = 0) -> Circumstances:
    """Circumstances that are the same at every run."""
    return Circumstances(random=Random(seed), now=NOW, queued=queued)  # noqa: S311


def compared(workflow: Workflow) -> dict[str, Any]:
    """Leave out what is not compared, and tell true from 1."""
    return {
        node_id: {
            "class_type": node.get("class_type"),
            "inputs": {
                key: exact(value)
                for key, value in node["inputs"].items()
                if key != _BROWSER_ONLY.get(node.get("class_type", ""))
            },
        }
        for node_id, node in workflow.items()
    }


def exact(value: Any) -> Any:
    """Mark booleans, which Python takes for numbers when it compares."""
    if isinstance(value, bool):
        return f"boolean {value}"
    if isinstance(value, list):
        return [exact(item) for item in value]
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    return value
