"""A job that is cancelled or late ends whatever is done to its workflow; copies have a bound."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from tests.worker_comfyui.workflows.graphs import (
    broadcasts,
    chain,
    graph,
    inner_link,
    node,
    subgraph,
)
from tests.worker_comfyui.workflows.pairs import NOW, circumstances, object_info
from worker_comfyui.errors import InvalidRequest
from worker_comfyui.workflows.editor.convert import Circumstances, convert
from worker_comfyui.workflows.overrides import apply
from worker_comfyui.workflows.values import Takes

ENOUGH_S = 1.0
PAUSE_S = 0.5
"""Processor time between two questions; each of these takes from some seconds to days in all."""


@pytest.fixture(autouse=True)
def only_its_own_objects() -> Iterator[None]:
    """Have no garbage collection go through what earlier tests have left in memory."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class EnoughError(Exception):
    """It went on for long enough."""


class Check:
    """Measures the longest pause between two questions, and ends it when there is enough."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._started = self._last = time.thread_time()

    def __call__(self) -> None:
        """Ask."""
        now = time.thread_time()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        if now - self._started > ENOUGH_S:
            raise EnoughError


def bypassed_chain() -> Any:
    """Inputs that all lie behind one chain of bypassed nodes."""
    length = 2_000
    file = chain(length)
    for one in file["nodes"][1:-1]:
        one |= {"mode": 4}
        one["inputs"][0]["type"] = "IMAGE"
    for number in range(length, 4 * length):
        file["links"].append([2 * number, length - 1, 0, number, 0, "IMAGE"])
        file["nodes"].append(node(number, "ImageInvert", links={"image": 2 * number}))
        file["nodes"][-1]["inputs"][0]["type"] = "IMAGE"
    properties = {"ue_convert": True}
    file["nodes"].append(node(0, "EmptyImage", 8, 8, 1, 0, gives=("IMAGE",), properties=properties))
    return file


def passing(ports: int, inner: Any) -> Any:
    """What a subgraph has whose inputs all lead to one node."""
    names = [f"p{number}" for number in range(ports)]
    inner["inputs"] = [
        {"name": name, "type": "STRING", "link": number, "widget": {"name": "text"}}
        for number, name in enumerate(names)
    ]
    links = [inner_link(number, (-10, number), (inner["id"], number)) for number in range(ports)]
    inputs = [{"name": name, "type": "*", "linkIds": [at]} for at, name in enumerate(names)]
    return {"links": links, "inputs": inputs}


def wide_hosts() -> Any:
    inner = node(1, "CLIPTextEncode", "x")
    definition = subgraph("s", inner, **passing(2_000, inner))
    return graph(
        *[node(number, "s", gives=()) for number in range(9, 300)],
        definitions={"subgraphs": [definition]},
    )


def deep_hosts() -> Any:
    definitions = []
    for level in range(60):
        inner = node(level + 1, f"s{level - 1}" if level else "CLIPTextEncode", "x")
        definitions.append(subgraph(f"s{level}", inner, **passing(500, inner)))
    return graph(node(1000, "s59", gives=()), definitions={"subgraphs": definitions})


def proxies() -> Any:
    """Old entries, each of which becomes an input of every host."""
    inner = [node(number, "EmptyImage", 64, 64, 1, 0) for number in range(1, 200)]
    entries = [[str(number), "width"] for number in range(1, 200)]
    hosts = [node(number, "s", properties={"proxyWidgets": entries}) for number in range(300, 800)]
    definition = subgraph("s", *inner, links=[], outputs=[])
    return graph(*hosts, definitions={"subgraphs": [definition]})


def group_nodes() -> Any:
    """A group with far more links than nodes, none of which leads anywhere, many times."""
    group = {"nodes": [{"type": "EmptyImage"}], "links": [[0, 0, 7, 0, "IMAGE"]] * 30_000}
    hosts = [node(number, "workflow>g") for number in range(500)]
    return graph(*hosts, extra={"groupNodes": {"g": group}})


def many_nodes() -> Any:
    return chain(40_000)


MAKERS = [broadcasts, bypassed_chain, wide_hosts, deep_hosts, proxies, group_nodes, many_nodes]


@pytest.mark.parametrize("make", MAKERS)
def test_a_conversion_asks_again_and_again_whether_to_go_on(make: Callable[[], Any]) -> None:
    file, info = make(), object_info()
    check = Check()
    with pytest.raises(EnoughError):
        convert(file, info, Circumstances(Random(0), NOW, check=check))  # noqa: S311
    assert check.longest < PAUSE_S


def test_setting_overrides_asks_again_and_again_whether_to_go_on() -> None:
    one: Any = {"class_type": "KSampler", "inputs": {}}
    workflow = {str(number): one for number in range(50_000)}
    names = {f"KSampler.{number}": 1 for number in range(1000)}
    takes = Takes(workflow, (), Random(0))  # noqa: S311
    check = Check()
    with pytest.raises(EnoughError):
        apply(workflow, names, {}, takes, check)
    assert check.longest < PAUSE_S


@pytest.mark.parametrize(
    ("host_id", "text"), [("h" * 100_000, ""), ("1000", "x" * 1_000_000), ("1000", "\0" * 200_000)]
)
def test_a_short_file_that_becomes_a_huge_workflow_is_refused(host_id: str, text: str) -> None:
    """Each node inside has the id of its host before its own; each copy has the texts."""
    inner = [node(number, "CLIPTextEncode", text) for number in range(1, 1000)]
    file = graph(
        node(host_id, "s", gives=()),
        definitions={"subgraphs": [subgraph("s", *inner, links=[], outputs=[])]},
    )
    with pytest.raises(InvalidRequest, match="becomes more than 64 MB"):
        convert(file, object_info(), circumstances())


@pytest.mark.parametrize(
    "group",
    [
        {"nodes": [{"type": "EmptyImage"}], "links": [[0, 0, 0, 0, "IMAGE"]] * 10_000},
        {"nodes": [{"type": "EmptyImage", "inputs": [{"name": "a"}] * 2_000}]},
    ],
)
def test_a_large_group_that_is_used_very_often_is_refused(group: Any) -> None:
    hosts = [node(number, "workflow>g") for number in range(500)]
    with pytest.raises(InvalidRequest, match="links, inputs and outputs in its groups"):
        convert(graph(*hosts, extra={"groupNodes": {"g": group}}), object_info(), circumstances())
