"""The order in which a prompt's nodes run."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence

from local_comfyui.prompt import Json, is_link


def links(node: Json) -> list[str]:
    """Ids of the nodes that a node takes its inputs from, in the order of its inputs."""
    return [value[0] for value in node["inputs"].values() if is_link(value)]


def needed_nodes(
    prompt: Json, outputs: Iterable[str], cached: Callable[[str], bool]
) -> dict[str, list[str]]:
    """What has to run for some output nodes: each node id with the ids that it waits for.

    Nodes behind a cached one are left out, but an output node is in even when it is cached.
    """
    needed: dict[str, list[str]] = {}
    stack = list(reversed(list(outputs)))
    while stack:
        node_id = stack.pop()
        if node_id in needed:
            continue
        sources = [] if cached(node_id) else links(prompt[node_id])
        needed[node_id] = [source for source in dict.fromkeys(sources) if not cached(source)]
        stack.extend(reversed(needed[node_id]))
    return needed


def run_order(needed: dict[str, list[str]], is_output: Callable[[str], bool]) -> Iterator[str]:
    """Yield node ids, each after all that it waits for.

    Among those that could run, ComfyUI prefers output nodes, then nodes that an output node waits
    for, then nodes that those wait for, so that results are shown early; else the order of
    ``needed`` decides (0.3.64 ``comfy_execution/graph.py``).
    """
    dependents: dict[str, list[str]] = {node_id: [] for node_id in needed}
    for node_id, sources in needed.items():
        for source in sources:
            dependents[source].append(node_id)
    position = {node_id: index for index, node_id in enumerate(needed)}
    waiting_for = {node_id: len(sources) for node_id, sources in needed.items()}

    def entry(node_id: str) -> tuple[int, int, str]:
        return (_rank(node_id, dependents, is_output), position[node_id], node_id)

    ready = [entry(node_id) for node_id, count in waiting_for.items() if count == 0]
    heapq.heapify(ready)
    while ready:
        node_id = heapq.heappop(ready)[2]
        yield node_id
        for dependent in dependents[node_id]:
            waiting_for[dependent] -= 1
            if waiting_for[dependent] == 0:
                heapq.heappush(ready, entry(dependent))


def _rank(node_id: str, dependents: dict[str, list[str]], is_output: Callable[[str], bool]) -> int:
    """0 for an output node, 1 for what an output node waits for, 2 one step before that, else 3."""
    level: Sequence[str] = [node_id]
    for rank in range(3):
        if any(is_output(candidate) for candidate in level):
            return rank
        level = [follower for candidate in level for follower in dependents[candidate]]
    return 3


def ancestors_first(prompt: Json) -> list[str]:
    """All nodes of a prompt, each after the ones it links to; links into nowhere are ignored."""
    order: list[str] = []
    seen: set[str] = set()
    for root in prompt:
        stack = [(root, False)]
        while stack:
            node_id, complete = stack.pop()
            if complete:
                order.append(node_id)
            elif node_id not in seen and node_id in prompt:
                seen.add(node_id)
                stack.append((node_id, True))
                stack.extend((source, False) for source in reversed(links(prompt[node_id])))
    return order
