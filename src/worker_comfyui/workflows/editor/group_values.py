"""What a group node stores for the widgets of the nodes inside: one list, node after node."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from worker_comfyui.workflows.editor.graph import Node, Widget
from worker_comfyui.workflows.editor.node_classes import COMBO
from worker_comfyui.workflows.editor.restore import assign
from worker_comfyui.workflows.editor.virtual import PRIMITIVE


@dataclass(frozen=True, slots=True)
class GroupValues:
    """What a group node stores for the widgets inside.

    Attributes:
        widgets: The node inside and the name of its widget, in order.
        stored: The group node's own `widgets_values`.
    """

    widgets: list[tuple[Node, str]]
    stored: list[Any]


def assign_values(values: GroupValues) -> None:
    """Give the widgets inside a group what the group node stores for them."""
    position = 0
    for node, name in values.widgets:
        if position >= len(values.stored):
            return
        value = values.stored[position]
        if node.type == PRIMITIVE:
            node.stored = [value]
            position += _primitive_entries(node)
            continue
        widget = node.widget(name)
        if widget is not None and widget.stored and not _is_newer(node, widget):
            assign(node, widget, value)
            position += 1 + _followers(node, widget)


def _is_newer(node: Node, widget: Widget) -> bool:
    """Tell whether the class had no such widget yet when the group was made.

    The group has a copy of the node, and in it a value for each widget of that time. One that came
    since owns no entry in the group's list: taking one would shift all that follow.
    """
    if not isinstance(node.stored, list):
        return False
    before = node.widgets[: node.widgets.index(widget)]
    return 0 < len(node.stored) <= sum(other.stored for other in before)


def _followers(node: Node, widget: Widget) -> int:
    """Count the widgets that belong to another and own entries, such as a seed's control."""
    rest = node.widgets[node.widgets.index(widget) + 1 :]
    return sum(other.stored for other in takewhile(lambda other: other.spec is None, rest))


def _primitive_entries(node: Node) -> int:
    link = node.graph.links.get(next(iter(node.first_links), ""))
    target = node.graph.nodes.get(link.target) if link else None
    slot = target.slot_of_link(link.id) if target and link else None
    widget = target.widget(slot.widget) if target and slot and slot.widget else None
    # With what the editor puts behind the value: a control, a combo's filter (widgetInputs.ts).
    return {"INT": 2, "FLOAT": 2, COMBO: 3}.get(widget.kind if widget else "", 1)
