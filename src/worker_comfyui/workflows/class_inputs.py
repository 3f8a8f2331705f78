"""The inputs that a node has once its dynamic ones are resolved: what ComfyUI checks.

ComfyUI 0.33 comfy_api/latest/_io.py (get_finalized_class_inputs).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from worker_comfyui.workflows.custom_combo import with_own_choices
from worker_comfyui.workflows.editor import dynamic, javascript
from worker_comfyui.workflows.editor.fresh import CUSTOM_COMBO
from worker_comfyui.workflows.editor.node_classes import (
    AUTOGROW,
    COMBO,
    DYNAMIC_COMBO,
    InputSpec,
    input_specs,
)
from worker_comfyui.workflows.editor.widgets import branches


def specs_of(description: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, InputSpec]:
    """List a node's inputs.

    Args:
        description: Of its class, as in `/object_info`.
        inputs: Of the node, in the API format.
    """
    specs = _resolved(input_specs(description.get("input")), inputs)
    if description.get("name") == CUSTOM_COMBO:
        specs = (with_own_choices(spec, inputs) for spec in specs)
    return {spec.name: spec for spec in specs}


def _resolved(specs: Iterable[InputSpec], inputs: Mapping[str, Any]) -> Iterator[InputSpec]:
    for spec in specs:
        if spec.type == DYNAMIC_COMBO:
            yield from _dynamic(spec, inputs)
        elif spec.type == AUTOGROW:
            yield from _grown(spec)
        else:
            yield spec


def _dynamic(spec: InputSpec, inputs: Mapping[str, Any]) -> Iterator[InputSpec]:
    options = branches(spec)
    keys = [option["key"] for option in options]
    yield replace(spec, type=COMBO, options={**spec.options, "options": keys})
    chosen = javascript.text(inputs.get(spec.name))
    for option in options:
        if javascript.text(option["key"]) == chosen:
            inside = input_specs(option.get("inputs"), f"{spec.name}.")
            yield from _resolved(inside, inputs)
            return


def _grown(spec: InputSpec) -> Iterator[InputSpec]:
    group = dynamic.group_of(spec)
    for ordinal in range(group.maximum):
        for one in group.specs:
            name = dynamic.name_in(group, spec.name, ordinal, one)
            optional = one.optional or spec.optional or ordinal >= group.minimum
            yield replace(one, name=name, optional=optional)
