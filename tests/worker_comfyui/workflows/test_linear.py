"""Converting is work in proportion to the file; benchmark_workflows.py says how long it takes."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from tests.worker_comfyui.workflows.graphs import chain, graph, inner_link, node, subgraph
from tests.worker_comfyui.workflows.pairs import circumstances, object_info
from worker_comfyui.workflows.editor.convert import convert

NOISE = 1.1
"""What is done once, or is sorted, may add to eight times; quadratic growth is 64 times."""


def lines_run(file: Any) -> int:
    """Count the lines of Python that converting runs: the same on any machine."""
    count = 0

    def trace(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    info, before = object_info("pack."), sys.gettrace()
    sys.settrace(trace)
    try:
        convert(file, info, circumstances())
    finally:
        sys.settrace(before)
    return count


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
def test_eight_times_the_nodes_are_eight_times_the_work(make: Any) -> None:
    small, large = lines_run(make(100)), lines_run(make(800))
    assert 8 / NOISE < large / small < 8 * NOISE
