"""The order in which a prompt's nodes run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from graphlib import TopologicalSorter

from local_comfyui.prompt import Json, is_link

Graph = dict[str, list[str]]
"""Node ids with the ids of the nodes that they take their inputs from."""


def upstream(prompt: Json, outputs: Iterable[str], is_end: Callable[[str], bool]) -> Graph:
    """The output nodes and what they need, up to where a node ``is_end``."""
    graph: Graph = {}
    stack = list(outputs)
    while stack:
        node_id = stack.pop()
        if node_id not in graph:
            inputs = [] if is_end(node_id) else prompt[node_id]["inputs"].values()
            sources = [value[0] for value in inputs if is_link(value)]
            graph[node_id] = [source for source in sources if not is_end(source)]
            stack.extend(graph[node_id])
    return graph


def run_order(graph: Graph, is_output: Callable[[str], bool]) -> Iterator[str]:
    """Yield each node after all that it takes inputs from.

    Output nodes come first among those that could run, roughly as in ``comfy_execution/graph.py``.
    """
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    ready: list[str] = []
    while sorter.is_active():
        ready += sorter.get_ready()
        node_id = next(filter(is_output, ready), ready[0])
        yield node_id
        ready.remove(node_id)
        sorter.done(node_id)
