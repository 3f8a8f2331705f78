"""Files whose values cannot be what their classes take today."""

from __future__ import annotations

from typing import Any

import pytest

from tests.worker_comfyui.workflows.graphs import Json, graph, node
from tests.worker_comfyui.workflows.pairs import circumstances
from worker_comfyui.redaction import Redactor
from worker_comfyui.workflows.editor.convert import convert

CLASS: Json = {
    "input": {
        "required": {
            "count": ["INT", {}],
            "ratio": ["FLOAT", {}],
            "on": ["BOOLEAN", {}],
            "text": ["STRING", {}],
            "method": [["lanczos", "area"]],
            "size": [["512", "1024"]],
        }
    },
    "input_order": {"required": ["count", "ratio", "on", "text", "method", "size"]},
    "output": [],
    "output_node": True,
}
RIGHT = {"count": 1, "ratio": 0.5, "on": True, "text": "a", "method": "area", "size": "512"}


def said(**values: Any) -> dict[str, str]:
    """Convert a node with these values, and return what is said of it."""
    file = graph(node(4, "Class", *(RIGHT | values).values(), gives=()))
    return dict(convert(file, {"Class": CLASS}, circumstances()).misfits)


def test_values_that_fit_are_no_matter() -> None:
    assert said() == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", "euler"),
        ("ratio", "enabled"),
        ("on", "fixed"),
        ("text", False),
        ("method", 20),
        ("method", True),
    ],
)
def test_a_value_that_cannot_be_meant_is_told(name: str, value: Any) -> None:
    assert said(**{name: value}) == {
        "4": f"the file's values for this node do not fit its inputs ({name} would be {value!r}): "
        "it was saved with another version of the node's pack, so others may be wrong too; look "
        "at them in the editor, and save it again"
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", "7"),  # ComfyUI reads numbers from texts
        ("ratio", 1),
        ("on", 1),
        ("text", 5),
        ("method", "bicubic"),  # a choice that is gone, or a model that is not here
        ("size", 512),
        ("count", None),
        ("count", {"a": 1}),
        ("text", ["a"]),
    ],
)
def test_a_value_that_may_be_meant_is_not(name: str, value: Any) -> None:
    assert said(**{name: value}) == {}


def test_a_long_value_is_told_in_short() -> None:
    assert len(said(count="x" * 10_000)["4"]) < 400


@pytest.mark.parametrize("before", ["", "x" * 80, 'it\'s "so" '])
def test_of_a_secret_that_is_cut_nothing_is_told(before: str) -> None:
    secret = "3f9c0d1e2b4a5968" * 10
    told = Redactor([secret]).text(said(count=before + secret)["4"])
    assert secret[:8] not in told
