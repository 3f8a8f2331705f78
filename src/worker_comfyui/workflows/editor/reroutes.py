"""Core Reroute nodes: the editor cuts a link that leads through them from a type to another.

It cuts loops of them too. Frontend extensions/core/rerouteNode.ts.
"""

from __future__ import annotations

from worker_comfyui.workflows.editor.graph import Graph, Node
from worker_comfyui.workflows.editor.trace import compatible
from worker_comfyui.workflows.editor.virtual import REROUTE


def cut_mismatches(graph: Graph) -> None:
    """Unlink inputs that get another type, or nothing but a loop, through Reroutes."""
    roots: dict[str, str | None] = {}
    for node in graph.listed:
        if node.type == REROUTE:
            continue
        for slot in node.inputs:
            link = graph.links.get(slot.link) if slot.link is not None else None
            origin = graph.nodes.get(link.origin) if link else None
            if origin is None or origin.type != REROUTE:
                continue
            given = _root_type(origin, graph, roots)
            if given is None or (given and slot.type and not compatible(given, slot.type)):
                slot.link = None


def _root_type(node: Node, graph: Graph, roots: dict[str, str | None]) -> str | None:
    """Say what comes in at the start of a chain of Reroutes; "" if unknown, None for a loop."""
    chain: list[str] = []
    seen: set[str] = set()
    given: str | None = ""
    while True:
        if node.id in roots:
            given = roots[node.id]
            break
        if node.id in seen:
            given = None
            break
        seen.add(node.id)
        chain.append(node.id)
        link_id = node.inputs[0].link if node.inputs else None
        link = graph.links.get(link_id) if link_id is not None else None
        origin = graph.nodes.get(link.origin) if link else None
        if link is None or origin is None:
            break
        if origin.type != REROUTE:
            types = origin.outputs
            given = types[link.origin_slot] if link.origin_slot < len(types) else ""
            break
        node = origin
    roots.update(dict.fromkeys(chain, given))
    return given
