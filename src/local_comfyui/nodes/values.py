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
    """Say that there are no models here.

    Such a node is declared so that a prompt whose model file is missing is refused as by ComfyUI:
    with ``value_not_in_list`` at the loader.

    Raises:
        RuntimeError: Always.
    """
    raise RuntimeError(
        "local_comfyui runs no models. Set COMFYUI_PATH or COMFY_HOST to use a real ComfyUI."
    )
