"""The order in which a prompt's nodes run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from graphlib import TopologicalSorter

from local_comfyui.prompt import Json, is_link


def _sources(node: Json) -> list[str]:
    """Ids of the nodes that a node takes its inputs from, in the order of its inputs."""
    return [value[0] for value in node["inputs"].values() if is_link(value)]


def run_order(
    prompt: Json,
    outputs: Iterable[str],
    is_cached: Callable[[str], bool],
    is_output: Callable[[str], bool],
) -> Iterator[str]:
    """Yield what has to run for some output nodes, each node after all that it waits for.

    Nodes behind a cached one are left out, but an output node is in even when it is cached. Among
    those that could run, output nodes come first, so that results are shown early (as in 0.3.64
    ``comfy_execution/graph.py``, which looks two steps further).
    """
    needed: dict[str, list[str]] = {}
    stack = list(outputs)
    while stack:
        node_id = stack.pop()
        if node_id not in needed:
            sources = [] if is_cached(node_id) else _sources(prompt[node_id])
            needed[node_id] = [source for source in sources if not is_cached(source)]
            stack.extend(needed[node_id])
    sorter = TopologicalSorter(needed)
    sorter.prepare()
    ready: list[str] = []
    while sorter.is_active():
        ready += sorter.get_ready()
        node_id = next(filter(is_output, ready), ready[0])
        yield node_id
        ready.remove(node_id)
        sorter.done(node_id)


def ancestors_first(prompt: Json) -> list[str]:
    """All nodes of a prompt, each after the ones it links to.

    Here nothing has been validated: links may lead into nowhere, or in a circle.
    """
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
                stack.extend((source, False) for source in reversed(_sources(prompt[node_id])))
    return order
