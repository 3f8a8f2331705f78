"""What the file says about a node → its slots and widgets.

Slots are matched by name, values by position. Frontend services/litegraphService.ts and
lib/litegraph/src/LGraphNode.ts (configure), utils/litegraphUtil.ts (migrateWidgetsValues).
"""

from __future__ import annotations

from typing import Any

from worker_comfyui.workflows.editor import dynamic, fresh, javascript
from worker_comfyui.workflows.editor.graph import Node, Widget, slots_by_name
from worker_comfyui.workflows.editor.node_classes import COMBO, DYNAMIC_COMBO, NodeClass
from worker_comfyui.workflows.editor.widgets import CONTROL

_SAMPLERS = {"KSampler", "KSamplerAdvanced"}
# ComfyUI once listed samplers by the names of k_diffusion (scripts/app.ts, loadGraphData).
_OLD_PREFIX = "sample_"
_WITH_CHOICES = {COMBO, DYNAMIC_COMBO, CONTROL}


def restore(node: Node, node_class: NodeClass) -> None:
    """Give a fresh node what the file has for it."""
    _match_slots(node)
    index = 0
    while index < len(node.inputs):  # a linked slot may bring more
        link = node.inputs[index].link
        if link is not None and link in node.graph.links:
            dynamic.grow(node, index, fresh.add_input)
        index += 1
    if isinstance(node.stored, dict):
        # Packs store an object and read it by themselves; the editor would keep the defaults.
        _assign_by_name(node, node.stored)
    else:
        _assign_in_order(node, _without_dummies(node, node_class, node.stored))


def _match_slots(node: Node) -> None:
    by_name = slots_by_name(node.file_slots)
    defined = {slot.name for slot in node.inputs}
    for slot in node.inputs:
        if slot.name in by_name:
            slot.link = by_name[slot.name].link
    node.inputs += [slot for slot in node.file_slots if slot.name not in defined]
    outputs = node.node_class.outputs if node.node_class else ()
    node.outputs = [*outputs, *node.outputs[len(outputs) :]]


def _without_dummies(node: Node, node_class: NodeClass, values: list[Any]) -> list[Any]:
    """Drop the entries that sockets owned in files older than frontend 1.16."""
    names = {widget.name for widget in node.widgets}
    dummies: list[bool] = []
    for spec in node_class.inputs:
        forced = bool(spec.options.get("forceInput"))
        if forced or spec.name in names:
            dummies.append(forced)
            # The option, not the name of a seed: so counts migrateWidgetsValues.
            if spec.options.get("control_after_generate"):
                dummies.append(False)
    if len(dummies) != len(values):
        return values
    return [value for value, dummy in zip(values, dummies, strict=True) if not dummy]


def _assign_in_order(node: Node, values: list[Any]) -> None:
    position = 0
    for value in values:
        while position < len(node.widgets) and not node.widgets[position].stored:
            position += 1
        if position == len(node.widgets):
            return
        assign(node, node.widgets[position], value)
        position += 1


def _assign_by_name(node: Node, values: dict[str, Any]) -> None:
    """Give values to widgets by their names; those of a dynamic combo come after it."""
    position = 0
    while position < len(node.widgets):
        widget = node.widgets[position]
        if widget.stored and widget.name in values:
            assign(node, widget, values[widget.name])
        position += 1


def assign(node: Node, widget: Widget, value: Any) -> None:
    """Set a widget's value, and change the node as far as that depends on it."""
    if widget.fixed:
        return
    widget.value = "" if value is None and _is_text_area(widget) else value
    if widget.kind == DYNAMIC_COMBO:
        dynamic.choose(node, widget, fresh.add_input)
    elif widget.kind == fresh.OPTION and widget is node.widgets[-1] and javascript.truthy(value):
        fresh.add_option(node)


def _is_text_area(widget: Widget) -> bool:
    """Tell whether the editor shows it as an element of the page, which turns null into ""."""
    multiline = widget.spec is not None and widget.spec.options.get("multiline")
    return widget.kind == "MARKDOWN" or (widget.kind == "STRING" and bool(multiline))


def repair(node: Node) -> None:
    """Do what the editor does to a node after the whole graph is read."""
    for widget in list(node.widgets):
        if widget.value is None and widget.kind in _WITH_CHOICES and widget.choices:
            assign(node, widget, widget.choices[0])
        if node.type in _SAMPLERS and widget.name == "sampler_name":
            value = widget.value
            if isinstance(value, str) and value.startswith(_OLD_PREFIX):
                widget.value = value.removeprefix(_OLD_PREFIX)


def drop_ghosts(node: Node) -> None:
    """Remove slots of widgets that the node does not have.

    The editor's loop passes over the slot behind a removed one, so of two in a row the second
    stays (extensions/core/widgetInputs.ts).
    """
    index = 0
    while index < len(node.inputs):
        slot = node.inputs[index]
        if slot.widget is not None and node.widget(slot.widget) is None:
            del node.inputs[index]
        index += 1
