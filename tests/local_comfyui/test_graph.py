from __future__ import annotations

from collections.abc import Iterable
from graphlib import TopologicalSorter
from typing import Any

import pytest

from local_comfyui.cache import Cache, CacheEntry, cache_keys
from local_comfyui.graph import run_order, upstream
from local_comfyui.node_call import calls
from tests.local_comfyui.workflows import Prompt, node


def node_class(**hidden: str) -> type:
    """A node class with no inputs but hidden ones."""
    inputs = {"required": {}, "hidden": hidden}
    return type("Node", (), {"RETURN_TYPES": ("X",), "INPUT_TYPES": staticmethod(lambda: inputs)})


CLASSES = {"Plain": node_class(), "KnowsItsId": node_class(id="UNIQUE_ID")}


def order(prompt: Prompt, outputs: Iterable[str], cached: tuple[str, ...] = ()) -> list[str]:
    needed = upstream(prompt, outputs, lambda node_id: node_id in cached)
    return list(run_order(needed, lambda node_id: node_id in outputs))


def keys(prompt: Prompt) -> dict[str, str]:
    graph = upstream(prompt, prompt, lambda _node_id: False)
    ordered = TopologicalSorter(graph).static_order()
    return cache_keys(prompt, ordered, CLASSES, lambda _node_id, _node_class: False)


def test_outputs_run_as_soon_as_they_can_and_what_none_needs_does_not() -> None:
    prompt = {
        "a": node("Plain"),
        "far": node("Plain", x=["a", 0]),
        "late": node("Plain", x=["far", 0]),
        "out 1": node("Plain", x=["late", 0]),
        "out 2": node("Plain", x=["a", 0]),
        "unused": node("Plain", x=["a", 0]),
    }

    assert order(prompt, ["out 1", "out 2"]) == ["a", "out 2", "far", "late", "out 1"]


def test_behind_a_cached_node_nothing_runs_but_a_cached_output_is_told() -> None:
    prompt = {"a": node("Plain"), "b": node("Plain", x=["a", 0]), "out": node("Plain", x=["b", 0])}

    assert order(prompt, ["out"], cached=("a", "b")) == ["out"]
    assert order(prompt, ["out"], cached=("a", "b", "out")) == ["out"]


def test_ancestors_come_first_even_in_a_very_long_chain() -> None:
    prompt: Prompt = {str(n): node("Plain", x=[str(n + 1), 0]) for n in range(5000)}
    prompt["5000"] = node("Plain")

    assert order(prompt, ["0"]) == [str(n) for n in range(5000, -1, -1)]


def test_keys_follow_inputs_and_ancestors_and_ids_only_where_a_node_asks_for_its_own() -> None:
    one = keys({"1": node("Plain", v=1), "2": node("Plain", x=["1", 0])})
    same = keys({"a": node("Plain", v=1), "b": node("Plain", x=["a", 0])})
    other = keys({"1": node("Plain", v=2), "2": node("Plain", x=["1", 0])})

    assert (one["1"], one["2"]) == (same["a"], same["b"])
    assert one["2"] != other["2"]
    assert keys({"1": node("KnowsItsId")})["1"] != keys({"2": node("KnowsItsId")})["2"]


@pytest.mark.parametrize(
    ("size", "kept"), [(None, ["b"]), (0, []), (1, ["c"]), (1000, ["a", "b", "c"])]
)
def test_policies_differ_in_what_they_keep(size: int | None, kept: list[str]) -> None:
    cache = Cache(size)
    for key in ("a", "b", "c"):
        cache.put(key, CacheEntry([], None))
    cache.begin_prompt({"b", "d"})

    assert [key for key in ("a", "b", "c") if cache.get(key)] == kept


def test_a_node_is_called_per_element_and_the_last_one_is_repeated() -> None:
    values: dict[str, list[Any]] = {"long": [1, 2, 3], "short": ["x", "y"]}

    assert calls(values, as_lists=False) == [
        {"long": 1, "short": "x"},
        {"long": 2, "short": "y"},
        {"long": 3, "short": "y"},
    ]
    assert calls(values, as_lists=True) == [values]
    assert calls({}, as_lists=False) == [{}]
    assert calls({"empty": []}, as_lists=False) == []
