"""Inputs that come and go: the editor's dynamic combos and the groups that grow (schema V3).

Frontend core/graph/widgets/dynamicWidgets.ts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from worker_comfyui.errors import InvalidRequest
from worker_comfyui.workflows.editor import javascript
from worker_comfyui.workflows.editor.graph import Autogrow, Node, Slot, Widget
from worker_comfyui.workflows.editor.node_classes import InputSpec, input_specs
from worker_comfyui.workflows.editor.widgets import SHIM, branches

MAX_GROUPS = 1_000
"""Inputs that one node may make grow; ComfyUI's own classes stop at 100."""

AddInput = Callable[[Node, InputSpec], None]
"""Makes the slot and the widgets of one input, at the end of the node's lists."""

_ORDINAL = re.compile(r"[0-9]+$", re.ASCII)


def choose(node: Node, widget: Widget, add: AddInput) -> None:
    """Give a node the inputs of a dynamic combo's value, in place of those of the last value."""
    inside = f"{widget.name}."
    removed = [slot for slot in node.inputs if slot.name.startswith(inside)]
    node.inputs = [slot for slot in node.inputs if not slot.name.startswith(inside)]
    node.widgets = [other for other in node.widgets if not other.name.startswith(inside)]
    branch = _branch(widget)
    if branch is None:
        return
    inputs_before, widgets_before = len(node.inputs), len(node.widgets)
    for spec in input_specs(branch, inside):
        add(node, spec)
    made, node.widgets = node.widgets[widgets_before:], node.widgets[:widgets_before]
    place = next(i for i, other in enumerate(node.widgets) if other is widget) + 1
    node.widgets[place:place] = made
    own = next((i for i, slot in enumerate(node.inputs) if slot.name == widget.name), None)
    if own is not None:  # a fresh node does not have it yet
        slots, node.inputs = node.inputs[inputs_before:], node.inputs[:inputs_before]
        node.inputs[own + 1 : own + 1] = slots
        _number_links(node, own + 1)
        _carry_links(node, removed, add)


def _branch(widget: Widget) -> Any:
    if widget.spec is None or not javascript.truthy(widget.value):
        return None
    wanted = javascript.text(widget.value)
    return next(
        (
            option.get("inputs") or {}
            for option in branches(widget.spec)
            if javascript.text(option["key"]) == wanted
        ),
        None,
    )


def _carry_links(node: Node, removed: list[Slot], add: AddInput) -> None:
    for old in removed:
        index = next((i for i, slot in enumerate(node.inputs) if slot.name == old.name), None)
        if index is not None:
            node.inputs[index].link = old.link
            if old.link is not None and old.link in node.graph.links:
                node.graph.links[old.link].target_slot = index
                # As on reading: a linked input brings the next one of its group.
                grow(node, index, add)


def _number_links(node: Node, start: int) -> None:
    """Correct where links come in after slots moved; an old migration goes by these numbers."""
    for index, slot in enumerate(node.inputs[start:], start):
        link = node.graph.links.get(slot.link) if slot.link is not None else None
        if link is not None:
            link.target_slot = index


def start_group(node: Node, spec: InputSpec, add: AddInput) -> None:
    """Make the first inputs of a group that grows."""
    group = node.autogrow[spec.name] = group_of(spec)
    # One more than needed: the one to link next.
    for ordinal in range(min(max(group.minimum + 1, 1), MAX_GROUPS)):
        _add_group(node, spec.name, ordinal, add)


def group_of(spec: InputSpec) -> Autogrow:
    """Read the description of a group that grows."""
    template = spec.options.get("template")
    template = template if isinstance(template, dict) else {}
    names = template.get("names")
    names = tuple(map(str, names)) if isinstance(names, list) else None
    minimum, maximum = (_whole(template.get("min"), 1), _whole(template.get("max"), 100))
    return Autogrow(
        specs=tuple(input_specs(template.get("input"))),
        names=names,
        prefix=str(template.get("prefix") or ""),
        minimum=minimum,
        maximum=min(MAX_GROUPS, len(names) if names is not None else maximum),
    )


def grow(node: Node, index: int, add: AddInput) -> None:
    """Make the inputs that follow a linked one, if it belongs to a group that grows."""
    name = node.inputs[index].name
    group_name, dot, own = name.rpartition(".")
    group = node.autogrow.get(group_name) if dot else None
    if group is None:
        return
    ordinal = _ordinal(group, own)
    if ordinal is not None:
        # Also where it is there: the editor makes a widget of it twice, which owns an entry.
        _add_group(node, group_name, ordinal + 1, add)


def _ordinal(group: Autogrow, own: str) -> int | None:
    if group.names is not None:
        return group.names.index(own) if own in group.names else None
    digits = _ORDINAL.search(own)
    return int(digits[0][-9:]) if digits else None  # no group has more


def _add_group(node: Node, group_name: str, ordinal: int, add: AddInput) -> None:
    group = node.autogrow[group_name]
    if ordinal >= group.maximum or not group.specs:
        return
    slots = []
    for spec in group.specs:
        name = name_in(group, group_name, ordinal, spec)
        optional = spec.optional or ordinal >= group.minimum
        add(node, replace(spec, name=name, optional=optional))
        # The slots that the file may add count too (reading.MAX_SLOTS).
        if len(node.widgets) > MAX_GROUPS or len(node.inputs) > 3 * MAX_GROUPS:
            message = f"has more than {MAX_GROUPS} inputs in `{group_name}`"
            raise InvalidRequest.of([{**node.where(), "message": message}])
        slot = node.inputs.pop()
        if len(group.specs) > 1 and slot.widget is None:
            slot.widget = slot.name
            node.widgets.append(Widget(slot.name, SHIM, spec=spec, stored=False, sent=False))
        slots.append(slot)
    for slot in slots:
        same = [other for other in node.inputs if other.name == slot.name]
        slot.link = next((other.link for other in same if other.link is not None), None)
        node.inputs = [other for other in node.inputs if other.name != slot.name]
    # The editor compares beginnings: where it looks for `image1`, `image10` fits too.
    before = name_in(group, group_name, ordinal - 1, group.specs[-1])
    last = max((i for i, s in enumerate(node.inputs) if s.name.startswith(before)), default=None)
    place = len(node.inputs) if last is None else last + 1
    node.inputs[place:place] = slots
    _number_links(node, place)


def name_in(group: Autogrow, group_name: str, ordinal: int, spec: InputSpec) -> str:
    """Name an input of a group that grows: `images.image0`."""
    if group.names is not None:
        inside = 0 <= ordinal < len(group.names)
        return f"{group_name}.{group.names[ordinal] if inside else 'undefined'}"
    prefix = group.prefix if len(group.specs) == 1 else spec.name
    return f"{group_name}.{prefix}{ordinal}"


def _whole(value: Any, default: int) -> int:
    return int(value) if isinstance(value, int | float) and abs(value) < math.inf else default
