"""Group nodes, which subgraphs replaced in 2025: each becomes a host with a definition of its own.

The editor of today loses values when it does this, so its export is no guide. What is here is what
the editor that made the files did (frontend 1.27 extensions/core/groupNode.ts). The ids are those
of today's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from worker_comfyui.errors import InvalidRequest
from worker_comfyui.workflows.editor.graph import (
    INPUT_PANEL,
    OUTPUT_PANEL,
    File,
    Graph,
    Link,
    Node,
    Port,
    Slot,
)
from worker_comfyui.workflows.editor.group_reroutes import carried
from worker_comfyui.workflows.editor.group_values import GroupValues
from worker_comfyui.workflows.editor.node_classes import InputSpec, NodeClass, NodeClasses
from worker_comfyui.workflows.editor.reading import MAX_NODES, object_at, objects, read_node
from worker_comfyui.workflows.editor.virtual import PRIMITIVE, REROUTE, Role, role

PREFIXES = ("workflow>", "workflow/")  # the second in older files
MAX_DEPTH = 20
MAX_PARTS = 500_000
"""Links, inputs and outputs of all group nodes, each copy of a group counted."""


@dataclass(slots=True)
class _Group:
    """One group while its host is made."""

    graph: Graph
    raw: Mapping[str, Any]
    members: list[Node]
    labels: list[dict[str, str]]
    inner: list[tuple[int, int, int, int]]
    incoming: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    outgoing: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    external: dict[int, set[Any]] = field(default_factory=lambda: defaultdict(set))
    seen: dict[str, int] = field(default_factory=dict)
    entries: list[tuple[Node, str]] = field(default_factory=list)
    sockets: list[tuple[str, Node, Slot]] = field(default_factory=list)
    widget_names: dict[str, tuple[Node, Slot]] = field(default_factory=dict)


def expand(file: File, classes: NodeClasses, check: Callable[[], None]) -> dict[str, GroupValues]:
    """Turn all group nodes of a file into hosts.

    Args:
        file: It is changed.
        classes: ComfyUI's.
        check: Raises when it is time to stop.

    Returns:
        What each of them stores, by the ids of their definitions.

    Raises:
        InvalidRequest: a group contains itself, or its data has the wrong shape.
    """
    extra = object_at(file.raw, "extra", file.root.path)
    groups = object_at(extra, "groupNodes", f"{file.root.path}.extra")
    values: dict[str, GroupValues] = {}
    if not groups:
        return values
    graphs = [(graph, 0) for graph in (file.root, *file.definitions.values())]
    counter = _Counter(file)
    while graphs:
        graph, depth = graphs.pop(0)
        renamed: dict[str, str] = {}
        for node in graph.listed:
            name = _name(node, groups)
            if name is None:
                continue
            check()
            if depth >= MAX_DEPTH:
                raise InvalidRequest.of(
                    [{**node.where(), "message": "its groups are nested too deep"}]
                )
            path = f"{file.root.path}.extra.groupNodes"
            group = _read_group(object_at(groups, name, path), f"{path}[{name!r}]", counter)
            _make_ports(group, node, classes)
            stored = node.stored if isinstance(node.stored, list) else []
            old = node.id  # the next line changes it
            renamed[old] = _become_host(node, group, name, counter)
            file.definitions[group.graph.id] = group.graph
            values[group.graph.id] = GroupValues(group.entries, stored)
            graphs.append((group.graph, depth + 1))
        for link in graph.links.values():
            link.origin = renamed.get(link.origin, link.origin)
            link.target = renamed.get(link.target, link.target)
        graph.index()
    return values


def _name(node: Node, groups: Mapping[str, Any]) -> str | None:
    for prefix in PREFIXES:
        if node.type.startswith(prefix) and node.type.removeprefix(prefix) in groups:
            return node.type.removeprefix(prefix)
    return None


class _Counter:
    """Gives out ids as the editor does: after the highest one in use."""

    def __init__(self, file: File) -> None:
        graphs = (file.root, *file.definitions.values())
        numbers = [node.id for graph in graphs for node in graph.listed if node.id.isdecimal()]
        # Longer ones are no exact numbers in JavaScript.
        used = [int(number) for number in numbers if len(number) < 16]
        self._last = max([file.root.last_node_id, *used])
        self._path = file.root.path
        self._count = sum(len(graph.listed) for graph in graphs)
        self._parts = 0

    def next(self) -> str:
        """Return a new id."""
        self._count += 1
        if self._count > MAX_NODES:
            raise InvalidRequest.at(self._path, f"has more than {MAX_NODES} nodes in its groups")
        self._last += 1
        return str(self._last)

    def count(self, group: _Group) -> None:
        """Note the links and slots of one more group: a short file may name a large one often.

        Raises:
            InvalidRequest: there are too many.
        """
        slots = sum(len(node.file_slots) + len(node.outputs) for node in group.members)
        self._parts += len(group.inner) + slots
        if self._parts > MAX_PARTS:
            message = f"has more than {MAX_PARTS} links, inputs and outputs in its groups"
            raise InvalidRequest.at(self._path, message)


def _read_group(raw: Mapping[str, Any], path: str, counter: _Counter) -> _Group:
    graph = Graph(path)
    members, labels = [], []
    for where, inner in objects(raw, "nodes", path):
        node = read_node({**inner, "id": counter.next()}, where, graph)
        for slot in node.file_slots:
            slot.link = None
        # These are links of the graph that the nodes were taken from.
        node.output_links = [[] for _ in node.output_links]
        members.append(node)
        labels.append(
            {
                str(slot.get("name")): slot["label"]
                for _, slot in objects(inner, "inputs", where)
                if isinstance(slot.get("label"), str)
            }
        )
    graph.listed = members
    graph.index()
    group = _Group(graph, raw, members, labels, list(_inner_links(raw, len(members))))
    counter.count(group)
    for origin, origin_slot, target, target_slot in group.inner:
        group.outgoing[origin].add(origin_slot)
        group.incoming[target].add(target_slot)
    external = raw.get("external")
    for entry in external if isinstance(external, list) else ():
        if isinstance(entry, list) and len(entry) > 1 and all(map(_is_index, entry[:2])):
            group.external[entry[0]].add(entry[1])
    return group


def _inner_links(raw: Mapping[str, Any], count: int) -> Iterator[tuple[int, int, int, int]]:
    links = raw.get("links")
    for link in links if isinstance(links, list) else ():
        ends = link[:4] if isinstance(link, list) and len(link) >= 4 else None
        if ends and all(map(_is_index, ends)):
            origin, origin_slot, target, target_slot = ends
            if origin < count and target < count:
                yield origin, origin_slot, target, target_slot


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _make_ports(group: _Group, host: Node, classes: NodeClasses) -> None:
    """Make the definition's inputs and outputs in the order that the group node had them."""
    found = [classes.get(node.type) for node in group.members]
    for index, (node, node_class) in enumerate(zip(group.members, found, strict=True)):
        if node_class is not None:
            _list_inputs(group, index, node, node_class)
        else:
            _list_virtual(group, index, node)
    for index, (node, node_class) in enumerate(zip(group.members, found, strict=True)):
        if node_class is not None:
            _list_converted(group, index, node, node_class)
    _wire_inside(group)
    for name, node, slot in group.sockets:
        _add_input(group.graph, name, node, slot)
    linked = {slot.name for slot in host.file_slots if slot.link is not None}
    for name in sorted(linked & group.widget_names.keys()):  # a set has no order
        _add_input(group.graph, name, *group.widget_names[name])
    for index, (node, node_class) in enumerate(zip(group.members, found, strict=True)):
        _make_outputs(group, index, node, node_class)


def _list_inputs(group: _Group, index: int, node: Node, node_class: NodeClass) -> None:
    filled, converted = _filled(group, index, node), _converted(node)
    for spec in node_class.inputs:
        if spec.is_widget and spec.name not in converted:
            name = _unique(group, index, node, spec.name)
            group.entries.append((node, spec.name))
            group.widget_names[name] = (node, _slot(node, spec))
    for spec in node_class.inputs:
        if not spec.is_widget and spec.name not in filled:
            name = _unique(group, index, node, spec.name)
            if _config(group, index, "input", spec.name).get("visible") is not False:
                group.sockets.append((name, node, _slot(node, spec)))


def _list_virtual(group: _Group, index: int, node: Node) -> None:
    if node.type == PRIMITIVE and group.outgoing[index]:
        _unique(group, index, node, "value")  # no input, but it counts when later ones are named
        group.entries.append((node, "value"))
    elif role(node) is Role.MISSING:
        # The class is what the caller must hear of, not an input that is lost with it.
        for place, slot in enumerate(node.file_slots):
            if slot.widget is None and place not in group.incoming[index]:
                group.sockets.append((_unique(group, index, node, slot.name), node, slot))
    elif node.type == REROUTE and not group.incoming[index]:
        node.file_slots = node.file_slots[:1] or [Slot("", "*")]
        kind = carried(group.raw, group.members, group.inner, index)
        name = _unique(group, index, node, kind)
        if _config(group, index, "input", kind).get("visible") is not False:
            group.sockets.append((name, node, node.file_slots[0]))


def _list_converted(group: _Group, index: int, node: Node, node_class: NodeClass) -> None:
    """List widgets that were turned into sockets; they stand after all others, sorted as text."""
    filled, converted = _filled(group, index, node), _converted(node)
    specs = [spec for spec in node_class.inputs if spec.is_widget and spec.name in converted]
    # JavaScript's sort() of numbers: 10 stands before 2 (processConvertedWidgets).
    for spec in sorted(specs, key=lambda spec: str(converted[spec.name])):
        if spec.name not in filled:
            name = _unique(group, index, node, spec.name)
            group.entries.append((node, spec.name))
            group.widget_names[name] = (node, _slot(node, spec))


def _filled(group: _Group, index: int, node: Node) -> set[str]:
    slots = node.file_slots
    return {slots[slot].name for slot in group.incoming[index] if slot < len(slots)}


def _converted(node: Node) -> dict[str, int]:
    slots = enumerate(node.file_slots)
    return {slot.name: index for index, slot in slots if slot.widget == slot.name}


def _slot(node: Node, spec: InputSpec) -> Slot:
    found = next((slot for slot in node.file_slots if slot.name == spec.name), None)
    if found is None:
        found = Slot(spec.name, spec.type)
        node.file_slots.append(found)
    return found


def _unique(group: _Group, index: int, node: Node, input_name: str) -> str:
    """Name an input of the group as its editor did; later ones of a name get the node's title."""
    # As getInputConfig counts: `seed`, `KSampler seed`, `KSampler 2 seed`.
    own = _config(group, index, "input", input_name).get("name")
    name = key = str(own or group.labels[index].get(input_name) or input_name)
    if (node.type == PRIMITIVE and node.title) or name in group.seen:
        prefix = node.title or node.type
        name = key = f"{prefix} {input_name}"
        if name in group.seen:
            name = f"{prefix} {group.seen[name]} {input_name}"
    group.seen[key] = group.seen.get(key, 1) + 1
    return name


def _config(group: _Group, index: int, side: str, name: str) -> Mapping[str, Any]:
    found: Any = group.raw.get("config")
    for key in (str(index), side, name):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _wire_inside(group: _Group) -> None:
    for number, (origin, origin_slot, target, target_slot) in enumerate(group.inner):
        source, node = group.members[origin], group.members[target]
        link = Link(f"inner:{number}", source.id, origin_slot, node.id, target_slot)
        group.graph.links[link.id] = link
        if target_slot < len(node.file_slots):
            node.file_slots[target_slot].link = link.id
        if origin_slot < len(source.output_links):
            source.output_links[origin_slot].append(link.id)


def _add_input(graph: Graph, name: str, node: Node, slot: Slot) -> None:
    # Where it comes in is told by the slot's own `link`; the 0 is not read.
    link = Link(f"in:{len(graph.inputs)}", INPUT_PANEL, len(graph.inputs), node.id, 0)
    graph.links[link.id] = link
    slot.link = link.id
    graph.inputs.append(Port(name, slot.type, [link.id]))


def _make_outputs(group: _Group, index: int, node: Node, node_class: NodeClass | None) -> None:
    outside = group.external[index]
    inside = group.outgoing[index]
    if node_class is None and (node.type != REROUTE or (inside and not outside)):
        return
    for slot, kind in enumerate(node_class.outputs if node_class else node.outputs[:1]):
        hidden = slot in inside and slot not in outside
        if _config(group, index, "output", str(slot)).get("visible", not hidden):
            number = len(group.graph.outputs)
            link = Link(f"out:{number}", node.id, slot, OUTPUT_PANEL, number)
            group.graph.links[link.id] = link
            group.graph.outputs.append(Port(kind, kind, [link.id]))


def _become_host(node: Node, group: _Group, name: str, counter: _Counter) -> str:
    """Let a group node stand for its definition; return the new id that the editor gives it."""
    known = {port.name for port in group.graph.inputs}
    for slot in node.file_slots:
        if slot.link is not None and slot.name not in known:
            message = "is linked, but its group has no such input; save the file in a new editor"
            raise InvalidRequest.of([{**node.where(), "input": slot.name, "message": message}])
    node.id = counter.next()
    group.graph.id = node.type = f"group:{node.id}"
    group.graph.name = name
    node.stored = []
    return node.id
