"""Links that connect the same two slots are one.

Frontend lib/litegraph/src/linkDeduplication.ts.
"""

from __future__ import annotations

from collections import defaultdict

from worker_comfyui.workflows.editor.graph import Graph, Link


def merge_links(graph: Graph) -> None:
    """Keep one link of each group, and let inputs and ports that name another name this one."""
    groups: dict[tuple[str, int, str, int], list[Link]] = defaultdict(list)
    for link in graph.links.values():
        groups[link.origin, link.origin_slot, link.target, link.target_slot].append(link)
    kept: dict[str, str] = {}
    places: dict[str, dict[str | None, int]] = {}
    for same in groups.values():
        if len(same) > 1:
            target = same[0].target
            if target not in places:
                places[target] = _places(graph, target)
            survivor = min(same, key=lambda link: places[target].get(link.id, len(places[target])))
            kept |= dict.fromkeys((link.id for link in same), survivor.id)
    for link_id, survivor_id in kept.items():
        if link_id != survivor_id:
            del graph.links[link_id]
    if kept:
        _rename(graph, kept)


def _places(graph: Graph, target: str) -> dict[str | None, int]:
    """Say for each link at which input of its target it comes in."""
    node = graph.nodes.get(target)
    places: dict[str | None, int] = {}
    for index, slot in enumerate(node.inputs if node else ()):
        places.setdefault(slot.link, index)
    return places


def _rename(graph: Graph, kept: dict[str, str]) -> None:
    for node in graph.listed:
        for slot in node.inputs:
            if slot.link is not None:
                slot.link = kept.get(slot.link, slot.link)
    for port in (*graph.inputs, *graph.outputs):
        port.links = list(dict.fromkeys(kept.get(link, link) for link in port.links))
