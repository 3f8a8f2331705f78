"""Old `properties.proxyWidgets`: values that a host shows without an input of its definition.

The editor turns each entry into an input when it loads the file, and so does this: it plans all
entries first, then acts in order. Frontend core/graph/subgraph/migration/proxyWidgetMigration.ts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker_comfyui.errors import InvalidRequest
from worker_comfyui.workflows.editor.definitions import proxies
from worker_comfyui.workflows.editor.graph import INPUT_PANEL, UNSET, Graph, Link, Node, Port, Slot
from worker_comfyui.workflows.editor.hosts import deepest_widget, promote, targets
from worker_comfyui.workflows.editor.virtual import PRIMITIVE
from worker_comfyui.workflows.editor.widgets import SHIM

MAX_PROXIES = 1_000
MAX_NAME = 1_000
"""Characters of a name from which prefixes are taken off."""
MAX_ADDED = 1_000_000
"""Inputs that are added to hosts: one for each entry and host of a definition."""

_PREFIX = re.compile(r"\s*([0-9]+)\s*:\s*(.+)", re.ASCII)
_BYPASSED = "proxyBypassedToSubgraphInput"


@dataclass(slots=True)
class Entry:
    """One entry: the widget that it means, and the host's value for it."""

    original: tuple[str, str]
    node_id: str
    name: str
    through: str | None
    value: Any

    @property
    def is_hole(self) -> bool:
        """Whether the host has no value for it, so that the inner one stays."""
        return self.value is None or self.value is UNSET


class Migration:
    """Migrates the entries of one host.

    Args:
        host: Whose definition is built, and whose slots are read.
        instances: All hosts of the same definition that are built so far, this one among them.
        check: Raises when it is time to stop.
    """

    def __init__(
        self, host: Node, definition: Graph, instances: list[Node], check: Callable[[], None]
    ) -> None:
        self._host = host
        self._definition = definition
        self._instances = instances
        self._check = check
        self._sources: dict[tuple[str, str], str] = {}
        values = host.stored if isinstance(host.stored, list) else []
        self._entries = [
            self._entry(proxy, values[index] if index < len(values) else UNSET)
            for index, proxy in enumerate(proxies(host)[:MAX_PROXIES])
        ]

    def run(self) -> None:
        """Give the host its values, and the definition the inputs that they need.

        Raises:
            InvalidRequest: there are too many of them.
        """
        if len(self._instances) * len(self._definition.inputs) > MAX_ADDED:
            message = "its subgraph has too many inputs and hosts"
            raise InvalidRequest.of([{**self._host.where(), "message": message}])
        for port in self._definition.inputs:
            self._check()
            source = _source(port, self._definition)
            if source is not None:
                self._sources.setdefault(source, port.name)
        mentioned = Counter(entry.node_id for entry in self._entries)
        plans = [(entry, *self._plan(entry, mentioned)) for entry in self._entries]
        self._act(plans)
        for entry, kind, _ in plans:
            # "-1" is the host itself: blueprints name its own inputs so (appendQuarantine).
            if kind == "aside" and entry.original[0] == "-1":
                self._set(entry.original[1], entry)

    def _act(self, plans: list[tuple[Entry, str, str]]) -> None:
        primitives: dict[str, list[Entry]] = {}
        for entry, kind, input_name in plans:
            if kind == "linked":
                self._set(input_name, entry)
            elif kind == "create":
                self._create(entry)
            elif kind == "primitive":
                primitives.setdefault(entry.node_id, []).append(entry)
        # Last, as in the editor: their inputs get the names that are left.
        for node_id, entries in primitives.items():
            self._replace_primitive(self._definition.nodes[node_id], entries)

    def _entry(self, proxy: tuple[str, str, str | None], value: Any) -> Entry:
        node_id, name, through = proxy
        entry = Entry((node_id, name), node_id, name, through, value)
        if not self._resolves(node_id, name):
            # As normalizeLegacyProxyWidgetEntry does: the last number that comes off counts.
            while len(entry.name) < MAX_NAME and (match := _PREFIX.fullmatch(entry.name)):
                entry.through, entry.name = match[1], match[2]
        return entry

    def _resolves(self, node_id: str, name: str) -> bool:
        node = self._definition.nodes.get(node_id)
        if node is None:
            return False
        if node.definition is not None:
            return deepest_widget(node, name) is not None
        return node.widget(name) is not None

    def _plan(self, entry: Entry, mentioned: Counter[str]) -> tuple[str, str]:
        self._check()
        linked_input = self._sources.get((entry.node_id, entry.name))
        if linked_input is not None:
            return "linked", linked_input
        node = self._definition.nodes.get(entry.node_id)
        if node is None:
            return "aside", ""
        if node.type == PRIMITIVE and node.definition is None:
            bypassed = node.properties.get(_BYPASSED)
            if isinstance(bypassed, str) and self._host.slot(bypassed):
                return "linked", bypassed
            linked = any(link in self._definition.links for link in node.first_links)
            return ("primitive" if linked or mentioned[node.id] > 1 else "aside"), ""
        return ("create" if self._slot_of(node, entry) else "aside"), ""

    def _slot_of(self, node: Node, entry: Entry) -> Slot | None:
        """Find the slot of the widget that an entry means."""
        if entry.name.startswith("$$"):  # previews, which hold no value
            return None
        if node.definition is None:
            return next((slot for slot in node.inputs if slot.widget == entry.name), None)
        ports = zip(node.inputs, node.definition.inputs, strict=True)
        found = (slot for slot, port in ports if _means(entry, slot, port, node.definition))
        slot = next(found, None)
        if slot is None or not slot.promoted:
            slot = node.slot(entry.name)
        return slot if slot is not None and slot.promoted else None

    def _set(self, name: str, entry: Entry) -> None:
        slot = self._host.slot(name)
        if slot is not None and slot.promoted and not entry.is_hole:
            slot.value = entry.value

    def _create(self, entry: Entry) -> None:
        node = self._definition.nodes[entry.node_id]
        slot = self._slot_of(node, entry)
        if slot is not None:
            name = self._add_input(entry.name, slot.type, [(node, slot)])
            self._set(name, entry)

    def _add_input(self, base: str, kind: str, slots: list[tuple[Node, Slot]]) -> str:
        """Add an input to the definition and to all its hosts, and wire it to slots inside."""
        taken = {port.name for port in self._definition.inputs}
        name, count = base, 0
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        port = Port(name, kind, [])
        for node, slot in slots:
            link = Link(
                f"proxy:{len(self._definition.inputs)}:{len(port.links)}",
                INPUT_PANEL,
                len(self._definition.inputs),
                node.id,
                node.inputs.index(slot),
            )
            if slot.link is not None:
                self._definition.links.pop(slot.link, None)
            self._definition.links[link.id] = link
            port.links.append(link.id)
            slot.link = link.id
        self._definition.inputs.append(port)
        for instance in self._instances:
            self._check()
            added = Slot(name, kind)
            promote(added, port, self._definition)
            instance.inputs.append(added)
        return name

    def _replace_primitive(self, node: Node, entries: list[Entry]) -> None:
        """Let an input take the place of a PrimitiveNode that several widgets are linked to.

        The editor finds the targets by the stored slot numbers, which files with left-out slots
        have wrong; if a type disagrees there, it does nothing.
        """
        if len({entry.name for entry in entries}) > 1:
            return
        slots = self._primitive_targets(node)
        if not slots:
            return
        kind = (node.outputs[0] if node.outputs else "") or "*"
        types = {slot.type or "*" for _, slot in slots} - {"*"}
        if kind != "*" and types - {kind}:
            return
        title = node.title if node.title not in {"", PRIMITIVE} else entries[0].name
        name = self._add_input(title, kind, slots)
        node.properties = {**node.properties, _BYPASSED: name}
        value = next((entry for entry in entries if not entry.is_hole), None)
        if value is not None:
            self._set(name, value)

    def _primitive_targets(self, node: Node) -> list[tuple[Node, Slot]]:
        found = []
        for link_id in node.first_links:
            link = self._definition.links.get(link_id)
            target = self._definition.nodes.get(link.target) if link else None
            if link is None or target is None or link.target_slot >= len(target.inputs):
                return []
            found.append((target, target.inputs[link.target_slot]))
        return found


def _means(entry: Entry, slot: Slot, port: Port, definition: Graph) -> bool:
    source = _source(port, definition)
    if entry.through is not None:
        return source == (entry.through, entry.name)
    return slot.name == entry.name or (source is not None and source[1] == entry.name)


def _source(port: Port, definition: Graph) -> tuple[str, str] | None:
    """Name the first widget, or input of a nested host, to which an input leads."""
    for node, slot in targets(port, definition):
        if node.definition is not None:
            return node.id, slot.name
        widget = node.widget(slot.widget) if slot.widget is not None else None
        if widget is not None and widget.kind != SHIM:
            return node.id, widget.name
    return None
