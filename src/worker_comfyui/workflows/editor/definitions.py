"""Subgraph definitions: unique node ids, their hosts, and the order in which they are built.

Frontend lib/litegraph/src/subgraph/subgraphDeduplication.ts.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Any

from worker_comfyui.errors import InvalidRequest
from worker_comfyui.workflows.editor.graph import File, Graph, Node

# Numbers that JavaScript writes as they were read.
_COUNTED = re.compile("0|[1-9][0-9]{0,14}")
MAX_DEPTH = 100
"""Levels of subgraphs inside subgraphs."""
MAX_SLOTS = 1_000_000
"""Inputs and outputs of all hosts."""


def renumber(file: File) -> None:
    """Give nodes of definitions a new id where the root or another definition uses theirs.

    The editor does so when it loads a file, and official templates depend on the new ids.
    """
    used = {node.id for node in file.root.listed if node.numbered}  # texts are not reserved
    last = file.root.last_node_id
    renamed: dict[str, dict[str, str]] = {}
    for graph in file.definitions.values():
        names = renamed[graph.id] = {}
        for node in graph.listed:
            if node.id in used:
                last += 1
                while str(last) in used:
                    last += 1
                names[node.id] = str(last)
                node.id = str(last)
            elif _COUNTED.fullmatch(node.id):
                last = max(last, int(node.id))
            used.add(node.id)
        _rename_in_links(graph, names)
    for graph in (file.root, *file.definitions.values()):
        for node in graph.listed:
            if node.type in renamed:
                _rename_in_proxies(node, renamed[node.type])


def _rename_in_links(graph: Graph, names: dict[str, str]) -> None:
    if names:
        graph.index()
        for link in graph.links.values():
            link.origin = names.get(link.origin, link.origin)
            link.target = names.get(link.target, link.target)


def _rename_in_proxies(node: Node, names: dict[str, str]) -> None:
    proxies = node.properties.get("proxyWidgets")
    # As in `patchProxyWidgets`, not where they are a JSON text.
    if isinstance(proxies, list):
        node.properties["proxyWidgets"] = [_renamed(entry, names) for entry in proxies]


def _renamed(entry: Any, names: dict[str, str]) -> Any:
    if isinstance(entry, list) and entry and str(entry[0]) in names:
        return [names[str(entry[0])], *entry[1:]]
    return entry


def proxies(node: Node) -> list[tuple[str, str, str | None]]:
    """Read `properties.proxyWidgets`: node id, widget name, and sometimes a second node id."""
    raw = node.properties.get("proxyWidgets")
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError):
            return []
    if not isinstance(raw, list) or not all(map(_is_proxy, raw)):
        return []
    return [(entry[0], entry[1], entry[2] if len(entry) > 2 else None) for entry in raw]


def _is_proxy(entry: Any) -> bool:
    return (
        isinstance(entry, list)
        and 2 <= len(entry) <= 3
        and all(isinstance(part, str) for part in entry)
    )


def find_hosts(file: File) -> None:
    """Connect every node whose type is a definition with that definition."""
    for graph in (file.root, *file.definitions.values()):
        for node in graph.listed:
            node.definition = file.definitions.get(node.type)


def build_order(file: File) -> list[Graph]:
    """List the graphs that the root needs: a definition before those that use it, the root last.

    Raises:
        InvalidRequest: a definition contains itself, or they are nested too deep.
    """
    needed = _needed(file.root)
    _check_slots(needed, file.root.path)
    users: dict[int, list[Graph]] = defaultdict(list)
    missing = {id(graph): 0 for graph in needed}
    for graph in needed:
        for used in _used(graph):
            users[id(used)].append(graph)
            missing[id(graph)] += 1
    ready = deque(graph for graph in needed if not missing[id(graph)])
    order: list[Graph] = []
    depth = dict.fromkeys(missing, 0)
    while ready:
        graph = ready.popleft()
        order.append(graph)
        for user in users[id(graph)]:
            depth[id(user)] = max(depth[id(user)], depth[id(graph)] + 1)
            missing[id(user)] -= 1
            if not missing[id(user)]:
                ready.append(user)
    if len(order) != len(needed):
        looped = next(graph for graph in needed if missing[id(graph)] and graph is not file.root)
        raise InvalidRequest.at(looped.path, f"the subgraph {looped.name!r} contains itself")
    if depth[id(file.root)] > MAX_DEPTH:
        raise InvalidRequest.at(
            file.root.path, f"has subgraphs nested deeper than {MAX_DEPTH} levels"
        )
    return order


def _check_slots(graphs: list[Graph], path: str) -> None:
    """Refuse a small file with a definition of many inputs that is used many times."""
    slots = sum(
        len(node.definition.inputs) + len(node.definition.outputs)
        for graph in graphs
        for node in graph.listed
        if node.definition is not None
    )
    if slots > MAX_SLOTS:
        raise InvalidRequest.at(
            path, f"has subgraphs with more than {MAX_SLOTS} inputs and outputs in all"
        )


def _needed(root: Graph) -> list[Graph]:
    found = {id(root): root}
    waiting = [root]
    while waiting:
        for graph in _used(waiting.pop()):
            if id(graph) not in found:
                found[id(graph)] = graph
                waiting.append(graph)
    return list(found.values())


def _used(graph: Graph) -> Iterable[Graph]:
    return {
        id(node.definition): node.definition for node in graph.listed if node.definition
    }.values()
