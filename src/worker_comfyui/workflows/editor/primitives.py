"""PrimitiveNode: it has no output; it writes its value into the widgets that it is linked to.

Numbers are clamped and rounded when the file is loaded, by the options of all linked inputs
together, and once more by each input's own. Frontend extensions/core/widgetInputs.ts,
widgetValuePropagation.ts, utils/nodeDefUtil.ts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from worker_comfyui.workflows.editor import javascript
from worker_comfyui.workflows.editor.graph import UNSET, Graph, Node, Slot, Widget
from worker_comfyui.workflows.editor.node_classes import WIDGET_TYPES, InputSpec
from worker_comfyui.workflows.editor.restore import assign

_NAN = math.nan
_REPLACES = "Run widget replace on values"
_NOT_COMPARED = {
    "default",
    "forceInput",
    "defaultInput",
    "control_after_generate",
    "multiline",
    "tooltip",
    "dynamicPrompts",
}

Places = Mapping[str, int]
"""At which input of its target each link of a graph comes in."""


def places(graph: Graph) -> Places:
    """Find where links really come in; the numbers in the file are often old."""
    found: dict[str, int] = {}
    for node in graph.listed:
        for index, slot in enumerate(node.inputs):
            if slot.link is not None:
                found[slot.link] = index
    return found


def prepare(node: Node, graph: Graph, where: Places) -> None:
    """Give a primitive its widget, as the first input that it is linked to wants it."""
    linked = [_target(link, graph, where) for link in node.first_links]
    if not linked or linked[0] is None:
        return
    target, slot = linked[0]
    spec = _spec(target, slot)
    if spec is None:
        return
    value = node.stored[0] if isinstance(node.stored, list) and node.stored else UNSET
    if value is UNSET:
        theirs = target.widget(slot.widget)
        value = theirs.value if theirs is not None else spec.options.get("default")
    widget = Widget("value", spec.widget_type, value, spec, spec.choices)
    node.widgets = [widget]
    if widget.kind in {"INT", "FLOAT"} and slot.widget is not None:
        _merge([found for found in linked if found is not None], widget, spec)


def apply(node: Node, graph: Graph, where: Places, replaced: Callable[[str], str]) -> None:
    """Write a primitive's value into the widgets that it is linked to."""
    if not node.widgets:
        return
    value = node.widgets[0].value
    if node.properties.get(_REPLACES) and javascript.truthy(value):
        value = replaced(javascript.text(value))
    for link in node.first_links:
        found = _target(link, graph, where)
        widget = found[0].widget(found[1].widget) if found and found[1].widget else None
        if found is not None and widget is not None and value is not UNSET:
            rounded = _rounded(value, widget.kind, _target_options(widget))
            # JSON has null for NaN.
            assign(found[0], widget, None if rounded is _NAN else rounded)


def _target(link_id: str, graph: Graph, where: Places) -> tuple[Node, Slot] | None:
    link = graph.links.get(link_id)
    node = graph.nodes.get(link.target) if link else None
    if link is None or node is None:
        return None
    index = where.get(link_id, link.target_slot)
    return (node, node.inputs[index]) if index < len(node.inputs) else None


def _spec(node: Node, slot: Slot) -> InputSpec | None:
    """Say what a primitive that is linked to this input holds; None: it cannot hold that."""
    if slot.widget is not None:
        widget = node.widget(slot.widget)
        return widget.spec if widget is not None else None
    return InputSpec(slot.name, slot.type, {}) if slot.type in WIDGET_TYPES else None


def _merge(linked: list[tuple[Node, Slot]], widget: Widget, first: InputSpec) -> None:
    """Narrow the options by each input that is linked, and the value with them."""
    merged = first
    for node, slot in linked:
        target = node.widget(slot.widget) if slot.widget is not None else None
        narrowed = _merged(merged, target.spec) if target and target.spec else None
        if narrowed is not None:
            merged = narrowed
            widget.value = _rounded(
                _clamped(widget.value, merged.options), widget.kind, merged.options
            )


def _merged(one: InputSpec, other: InputSpec) -> InputSpec | None:
    if one.widget_type != other.widget_type:
        return None
    low = max(_bound(one, "min", -math.inf), _bound(other, "min", -math.inf))
    high = min(_bound(one, "max", math.inf), _bound(other, "max", math.inf))
    if low > high:
        return None
    step = _common_multiple(_bound(one, "step", 1), _bound(other, "step", 1))
    both = {"min": low, "max": high, "step": step}
    ours, theirs = {**one.options, **both}, {**other.options, **both}
    for key in (ours.keys() | theirs.keys()) - _NOT_COMPARED:
        if ours.get(key) != theirs.get(key):
            return None
    return replace(one, options={**ours, **theirs})


def _bound(spec: InputSpec, key: str, default: float) -> float:
    value = spec.options.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default


def _common_multiple(one: float, other: float) -> float:
    """Find it for fractions too, as the editor's `lcm` does."""
    if one == other or not one or not other:
        return one or other
    rest, divisor = one, other
    for _ in range(100):
        if not divisor:
            break
        rest, divisor = divisor, math.fmod(rest, divisor)
    return abs(one * other) / abs(rest)


def _clamped(value: Any, options: Mapping[str, Any]) -> Any:
    number = javascript.number(value)
    if number is None:
        return value
    low, high = options.get("min"), options.get("max")
    if low is not None and number < low:
        return low
    if high is not None and number > high:
        return high
    return value


def _target_options(widget: Widget) -> Mapping[str, Any]:
    options = dict(widget.spec.options) if widget.spec else {}
    options.setdefault("min", None)
    options.setdefault("max", None)
    # What useIntWidget.ts and useFloatWidget.ts give a widget whose class says nothing.
    options["min"] = 0 if options["min"] is None else options["min"]
    options["max"] = 2048 if options["max"] is None else options["max"]
    options.setdefault("step", None)
    if options["step"] is None:
        options["step"] = 1 if widget.kind == "INT" else 0.5
    return options


def _rounded(value: Any, kind: str, options: Mapping[str, Any]) -> Any:
    """Round a number as its kind wants; what is no number stays `_NAN` to the end."""
    if kind == "INT":
        number = javascript.number(value)
        if number is None or not math.isfinite(number):
            return _NAN
        return _whole(number, options.get("step") or 1, options.get("min") or 0)
    if kind == "FLOAT":
        return _fraction(value, options)
    return value


def _whole(number: float, step: float, low: float) -> float:
    if step == 1:
        return javascript.rounded(number)
    if isinstance(number, int) and isinstance(step, int) and isinstance(low, int):
        rest = low % step
        return (2 * (number - rest) + step) // (2 * step) * step + rest
    offset = math.fmod(low, step) if math.isfinite(low) else 0
    result = javascript.rounded((number - offset) / step) * step + offset
    return int(result) if float(result).is_integer() else result


def _fraction(value: Any, options: Mapping[str, Any]) -> Any:
    step = options.get("step") or 1
    digits = max(0, -math.floor(math.log10(step))) if step > 0 else 0
    unit = options.get("round")
    if not unit and digits:
        unit = 10.0**-digits
    if not unit or unit is True:
        return value
    number = javascript.number(value)
    if number is None or not math.isfinite(number):
        return _NAN
    nearest = math.floor(number / unit + 0.5) * unit
    nearest = float(f"{nearest:.{min(digits, 100)}f}")  # toFixed takes no more
    low, high = options.get("min", -math.inf), options.get("max", math.inf)
    return float(min(max(nearest, low), high))
