"""From what was sent to what runs: both formats, overrides, notes."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from tests.worker_comfyui.workflows.graphs import graph, node, text_to_image
from tests.worker_comfyui.workflows.pairs import NOW, object_info
from worker_comfyui.errors import InvalidRequest
from worker_comfyui.workflows.resolve import Options, Resolved, resolve

API = {"1": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}}


def run(sent: Any, **options: Any) -> Resolved:
    return resolve(sent, object_info, Options(random=Random(1), now=NOW, **options))  # noqa: S311


def never() -> Mapping[str, Any]:
    raise AssertionError("object info was asked for")


def test_an_api_workflow_runs_as_it_is_and_needs_no_object_info() -> None:
    resolved = resolve(API, never)
    assert resolved.workflow == API
    assert resolved.graph is None


def test_an_editor_file_is_converted_and_kept_for_the_metadata() -> None:
    file = text_to_image()
    resolved = run(file)
    assert resolved.workflow["5"]["inputs"]["positive"] == ["2", 0]
    assert resolved.graph == file


def test_overrides_come_last() -> None:
    resolved = run(
        text_to_image(), overrides={"Negative.text": "blurry", "KSampler.seed": "random"}
    )
    assert resolved.workflow["3"]["inputs"]["text"] == "blurry"
    assert resolved.drawn == {"5.seed": resolved.workflow["5"]["inputs"]["seed"]}


def test_a_stored_seed_runs_and_the_caller_is_told() -> None:
    resolved = run(text_to_image())
    assert resolved.workflow["5"]["inputs"]["seed"] == 7
    assert 'overrides` such as {"5.seed": "random"}' in resolved.notes[0]


def test_the_caller_is_told_of_values_from_another_version_of_a_node() -> None:
    file = text_to_image()
    file["nodes"][4]["widgets_values"].insert(2, "new")
    resolved = run(file, overrides={"4.width": 64})
    assert resolved.misfits["5"].startswith("the file's values for this node do not fit its inputs")
    assert f"node 5 (KSampler): {resolved.misfits['5']}" in resolved.notes


def test_problems_are_raised_or_returned() -> None:
    file = text_to_image()
    file["nodes"][3]["type"] = "Unknown"
    with pytest.raises(InvalidRequest, match="Unknown"):
        run(file)
    resolved = run(file, lenient=True)
    assert resolved.problems[0]["class_type"] == "Unknown"
    assert resolved.workflow["4"]["class_type"] == "Unknown"


def test_a_file_in_which_nothing_runs_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"has no node that runs: .*, or there are none$"):
        run(graph(node(1, "Note", "hello")))
    strange = node(2, "Unheard of", "hello", gives=())
    with pytest.raises(InvalidRequest, match=r"no node class here is called 'Unheard of'$"):
        run(graph(node(1, "Note", "hello"), strange))


@pytest.mark.parametrize(
    ("workflow", "path"),
    [
        ({"1": {"class_type": "A", "inputs": []}}, "workflow.1.inputs"),
        ({"1": {"class_type": 5, "inputs": {}}}, "workflow.1.class_type"),
        ({"1": {"class_type": "A", "inputs": {}}, "2": None}, "workflow.2"),
        ({"1": {"class_type": "A", "inputs": {"x": float("nan")}}}, "workflow.1.inputs.x"),
        ({"prompt": {"1": {"class_type": "A"}}}, "workflow.prompt.1.inputs"),
    ],
)
def test_a_wrong_shape_is_refused_with_its_path(workflow: Any, path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve(workflow, never)
    assert caught.value.details[0]["path"] == path


def test_values_that_json_cannot_carry_are_refused() -> None:
    file = text_to_image()
    file["nodes"][4]["widgets_values"][3] = float("inf")
    with pytest.raises(InvalidRequest, match=r"workflow\.5\.inputs\.cfg: must be a finite number"):
        run(file)


def test_nesting_without_end_is_refused() -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    file = text_to_image()
    file["nodes"][1]["widgets_values"] = [{"deep": deep}]
    with pytest.raises(InvalidRequest, match="nested more than 64 levels"):
        run(file)
