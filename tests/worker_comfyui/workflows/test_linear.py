"""Converting takes time in proportion to the file."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.worker_comfyui.workflows.graphs import chain, graph, inner_link, node, subgraph
from tests.worker_comfyui.workflows.pairs import circumstances, object_info
from worker_comfyui.workflows.editor.convert import convert

NOISE = 2.5
"""How much longer a run may take on a busy machine; quadratic growth is 8 times here."""


def seconds(file: Any) -> float:
    info, times = object_info("pack."), []
    for _ in range(3):
        start = time.process_time()
        convert(file, info, circumstances())
        times.append(time.process_time() - start)
    return min(times)


def bypassed(length: int) -> Any:
    """A chain of bypassed nodes, each with a picture shown."""
    file = chain(length)
    for one in file["nodes"][1:-1]:
        one["mode"] = 4
    for number in range(2, length):
        link = length + number
        file["links"].append([link, number, 0, length + number, 0, "IMAGE"])
        file["nodes"].append(
            node(length + number, "PreviewImage", links={"images": link}, gives=())
        )
    return file


def instances(count: int) -> Any:
    """One subgraph many times."""
    inner = node(1, "EmptyImage", 64, 64, 1, 0, gives=("IMAGE",))
    outputs = [{"name": "IMAGE", "type": "IMAGE", "linkIds": [1]}]
    definition = subgraph("s", inner, links=[inner_link(1, (1, 0), (-20, 0))], outputs=outputs)
    hosts = [node(number, "s", gives=("IMAGE",)) for number in range(count)]
    return graph(*hosts, definitions={"subgraphs": [definition]})


def reroutes(length: int) -> Any:
    file = chain(length)
    for one in file["nodes"][1:-1]:
        one |= {"type": "Reroute"}
    return file


def broadcasts(count: int) -> Any:
    """Many inputs that one broadcast reaches."""
    texts = [node(n, "CLIPTextEncode", "x", links={"clip": None}) for n in range(3, count)]
    return graph(
        node(1, "CLIPLoader", "a", "sd3", "default", gives=("CLIP",)),
        node(2, "Anything Everywhere", links={"anything": 1}, gives=()),
        *texts,
        links=[[1, 1, 0, 2, 0, "CLIP"]],
    )


@pytest.mark.parametrize("make", [chain, bypassed, instances, reroutes, broadcasts])
def test_eight_times_the_nodes_take_eight_times_as_long(make: Any) -> None:
    small, large = seconds(make(250)), seconds(make(2000))
    assert large < 8 * NOISE * small
