"""Hosts: nodes that stand for a subgraph. Their slots, and the values that they have themselves.

A host's inputs are those of the definition, whatever the file lists. An input that leads to a
widget inside is *promoted*: the host has a value for it, which counts instead of the widget's own.
Frontend lib/litegraph/src/subgraph/SubgraphNode.ts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from worker_comfyui.workflows.editor.graph import (
    UNSET,
    Graph,
    Node,
    Port,
    Slot,
    Widget,
    slots_by_name,
)


def build_host(node: Node, definition: Graph, check: Callable[[], None]) -> None:
    """Make a host's slots from its definition, and read what the file has for them.

    Args:
        node: The host.
        definition: Its subgraph, built.
        check: Raises when it is time to stop: an input may lead through a hundred subgraphs.
    """
    by_name = slots_by_name(node.file_slots)
    node.inputs = []
    for port in definition.inputs:
        stored = by_name.get(port.name)
        node.inputs.append(Slot(port.name, port.type, stored.link if stored else None))
    node.outputs = [port.type for port in definition.outputs]
    for slot, port in zip(node.inputs, definition.inputs, strict=True):
        check()
        promote(slot, port, definition)
    _assign_values(node)


def promote(slot: Slot, port: Port, definition: Graph) -> None:
    """Give a host's input the value of the first widget inside that it leads to."""
    for target, inner in targets(port, definition):
        source = source_widget(target, inner)
        if source is not None:
            slot.promoted = True
            slot.widget = slot.name
            slot.value = source.value
            return


def targets(port: Port, definition: Graph) -> Iterator[tuple[Node, Slot]]:
    """List the nodes and slots inside to which an input leads, in order."""
    for link_id in port.links:
        link = definition.links.get(link_id)
        node = definition.nodes.get(link.target) if link else None
        slot = node.slot_of_link(link_id) if node else None
        if node is not None and slot is not None:
            yield node, slot


def source_widget(node: Node, slot: Slot) -> Widget | None:
    """Return the widget of a slot; for a promoted input of a host, one that has its value."""
    if node.definition is None:
        return node.widget(slot.widget) if slot.widget is not None else None
    if not slot.promoted:
        return None
    deepest = deepest_widget(node, slot.name)
    kind = deepest.kind if deepest else "HOST"
    return Widget(slot.name, kind, slot.value, choices=deepest.choices if deepest else [])


def deepest_widget(host: Node, name: str) -> Widget | None:
    """Follow a promoted input through nested hosts to the widget that it stands for."""
    while host.definition is not None:
        ports = (port for port in host.definition.inputs if port.name == name)
        port = next(ports, None)
        found = None
        for node, slot in targets(port, host.definition) if port else ():
            if node.definition is not None or node.widget(slot.widget) is not None:
                found = node, slot
                break
        if found is None:
            return None
        host, name = found[0], found[1].name
        if host.definition is None:
            return host.widget(found[1].widget)
    return None


def _assign_values(node: Node) -> None:
    """Assign `widgets_values` to the promoted inputs, in order; sockets own no entry."""
    quarantined = _quarantined(node)
    stored = node.stored
    promoted = [slot for slot in node.inputs if slot.promoted]
    for index, slot in enumerate(promoted):
        if isinstance(stored, dict):
            value = stored.get(slot.name, UNSET)
        else:
            value = stored[index] if index < len(stored) else UNSET
        value = quarantined.get(slot.name, value)
        if value is not UNSET:
            slot.value = value


def _quarantined(node: Node) -> dict[str, Any]:
    """Read the values that the editor could not place when it migrated the file."""
    values: dict[str, Any] = {}
    entries = node.properties.get("proxyWidgetErrorQuarantine")
    for entry in entries if isinstance(entries, list) else ():
        original = entry.get("originalEntry") if isinstance(entry, dict) else None
        if isinstance(original, list) and len(original) > 1 and original[0] == "-1":
            value = entry.get("hostValue")
            if value is not None:
                values.setdefault(str(original[1]), value)
    return values


def repair_host(node: Node, check: Callable[[], None]) -> None:
    """Let a promoted combo without a value take its first choice, as the editor does on loading."""
    for slot in node.inputs:
        check()
        if slot.promoted and slot.value is None:
            widget = deepest_widget(node, slot.name)
            if widget is not None and widget.choices:
                slot.value = widget.choices[0]
