"""Nodes for plain values, and those that would need a model."""

from __future__ import annotations

import contextlib
import json
from typing import Any, NoReturn

from local_comfyui.nodes.core_node import Ui


def primitive(value: Any) -> tuple[Any]:
    """The value itself."""
    return (value,)


def preview_any(source: Any = None) -> Ui:
    """Anything as text: strings and numbers as they are, else JSON, else Python's own words."""
    text = str(source)
    if source is not None and not isinstance(source, str | bool | int | float):
        with contextlib.suppress(TypeError, ValueError):
            text = json.dumps(source)
    return {"ui": {"text": [text]}}


def needs_model(**_inputs: Any) -> NoReturn:
    """Always fail: such a node is there so that a missing model file is told as by ComfyUI."""
    raise RuntimeError(
        "local_comfyui runs no models. Set COMFYUI_PATH or COMFY_HOST to use a real ComfyUI."
    )
