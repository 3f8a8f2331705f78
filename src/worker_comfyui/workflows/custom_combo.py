"""CustomCombo, ComfyUI's node whose choices are inputs of its own: `option1`, `option2`, ... Pure.

ComfyUI knows none of them and takes any text (0.33 comfy_extras/nodes_logic.py, CustomComboNode).
The editor keeps `index`, which is an output of the node, at the choice's place among them (frontend
extensions/core/customWidgets.ts).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import count, takewhile
from typing import Any

from worker_comfyui.workflows.editor.fresh import CUSTOM_COMBO
from worker_comfyui.workflows.editor.node_classes import InputSpec

CHOICE = "choice"
INDEX = "index"


def with_own_choices(spec: InputSpec, inputs: Mapping[str, Any]) -> InputSpec:
    """Give the spec of `choice` what the node itself offers."""
    if spec.name != CHOICE:
        return spec
    own = [option for option in _options(inputs) if isinstance(option, str) and option]
    return replace(spec, options={**spec.options, "options": own}, takes_any=True)


def with_index(class_type: str, changed: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Set a node's `index` to that of its choice, if that was changed and the node offers it."""
    is_chosen = (class_type, changed) == (CUSTOM_COMBO, CHOICE)
    options = _options(inputs) if is_chosen else []
    chosen = inputs.get(CHOICE)
    return {**inputs, INDEX: options.index(chosen)} if chosen in options else inputs


def _options(inputs: Mapping[str, Any]) -> list[Any]:
    names = (f"option{number}" for number in count(1))
    return [inputs[name] for name in takewhile(inputs.__contains__, names)]
