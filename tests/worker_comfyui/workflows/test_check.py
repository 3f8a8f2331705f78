"""What a dry run says about a workflow is what ComfyUI would say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.worker_comfyui.workflows.pairs import names, object_info, pair
from worker_comfyui.comfyui.node_problems import Lookup
from worker_comfyui.comfyui.rejection import explain
from worker_comfyui.errors import Detail
from worker_comfyui.workflows import check
from worker_comfyui.workflows.form import form_of

RECORDED = Path(__file__).resolve().parents[3] / "test_resources" / "comfyui"
CLASSES: dict[str, Any] = json.loads((RECORDED / "object_info.json").read_text())
REFUSED = json.loads((RECORDED / "transcripts" / "prompt_refused.json").read_text())["http"]


def refusals() -> list[tuple[Any, Any]]:
    """The recorded refusals of workflows whose shape is right, which is checked before."""
    bodies = [(one["request"].get("body"), one["response"]["body"]) for one in REFUSED]
    sent = [(body.get("prompt"), answer) for body, answer in bodies if isinstance(body, dict)]
    return [(workflow, answer) for workflow, answer in sent if has_right_shape(workflow)]


def has_right_shape(workflow: Any) -> bool:
    return isinstance(workflow, dict) and all(
        isinstance(node, dict)
        and isinstance(node.get("class_type"), str)
        and isinstance(node.get("inputs"), dict)
        for node in workflow.values()
    )


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


WORKFLOW = {
    "1": node("LoadImage", image="a.png"),
    "2": node("ImageScaleBy", image=["1", 0], upscale_method="area", scale_by=2.0),
    "3": node("SaveImage", images=["2", 0], filename_prefix="x"),
}


def problems(*, sent: Any = ("a.png",), **changes: Any) -> list[Detail]:
    return check.problems(WORKFLOW | changes, object_info(), sent=sent)


def message(**changes: Any) -> str:
    (detail,) = problems(**changes)
    return f"{detail.get('node_id')} {detail.get('input')}: {detail['message']}"


def test_a_workflow_that_would_run_has_no_problems() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"2": node("ImageScaleBy", image=["1", 0], upscale_method="area")}, "2 scale_by: is req"),
        (
            {"2": node("ImageScaleBy", image=["1", 1], upscale_method="area", scale_by=1)},
            "2 image: is linked to an output of type MASK, but takes IMAGE",
        ),
        (
            {"2": node("ImageScaleBy", image=["1", 7], upscale_method="area", scale_by=1)},
            "2 image: is linked to output 7 of node 1 (LoadImage), which has 2",
        ),
        (
            {"2": node("ImageScaleBy", image=["9", 0], upscale_method="area", scale_by=1)},
            "2 image: is linked to node 9, which the workflow does not have",
        ),
        (
            {"2": node("ImageScaleBy", image=["1", 0], upscale_method="areas", scale_by=1)},
            "2 upscale_method: is 'areas', which is not among the choices; did you mean 'area'?",
        ),
        (
            {"2": node("ImageScaleBy", image=["1", 0], upscale_method="area", scale_by=99)},
            "2 scale_by: is 99.0, but must be at least 0.01 and at most 8.0",
        ),
        (
            {"2": node("ImageScaleBy", image=["1", 0], upscale_method="area", scale_by="big")},
            "2 scale_by: is 'big', but takes FLOAT",
        ),
        ({"2": node("ImageScaleBuy")}, "2 None: the node class does not exist here: a custom node"),
        ({"3": node("VAEDecode")}, "None None: the workflow has no output node"),
    ],
)
def test_a_problem_is_told_in_the_words_of_a_refused_prompt(changes: Any, says: str) -> None:
    found = problems(**changes)
    told = [f"{one.get('node_id')} {one.get('input')}: {one['message']}" for one in found]
    assert any(line.startswith(says) for line in told)


def test_an_input_file_must_come_with_the_request() -> None:
    assert "send it in `images` under this name" in problems(sent=())[0]["message"]


@pytest.mark.parametrize("name", ["Loading...", "a.png [output]", "../a.png"])
def test_a_list_of_files_that_the_editor_asks_for_counts_as_empty(name: str) -> None:
    found = problems(**{"1": node("LoadImageOutput", image=name)})
    assert [(detail["node_id"], detail["input"]) for detail in found] == [("1", "image")]
    assert "`images`" in found[0]["message"]
    assert problems(**{"1": node("LoadImageOutput", image="a.png")}) == []


def test_links_in_a_circle_are_shown() -> None:
    circle = node("ImageScaleBy", image=["2", 0], upscale_method="area", scale_by=1)
    assert "the links form a loop: 2 ← 2" in message(**{"2": circle})


def test_unknown_classes_do_not_hide_other_problems() -> None:
    found = problems(
        **{
            "1": node("Unknown"),
            "2": node("ImageScaleBy", image=["1", 0], upscale_method="x", scale_by=1),
        }
    )
    assert {detail["node_id"] for detail in found} == {"1", "2"}


def test_what_the_conversion_told_is_not_told_twice() -> None:
    said: Detail = {"path": "workflow.nodes[0]", "node_id": "1", "message": "no class"}
    unknown = WORKFLOW | {"1": node("Unknown")}
    assert check.problems(unknown, object_info(), told=[said]) == [said]


def test_nodes_that_lead_to_no_output_are_not_looked_at() -> None:
    assert problems(**{"9": node("VAEDecode")}) == []


def test_dynamic_inputs_count_by_what_is_chosen() -> None:
    batch = node("BatchImagesNode")
    assert "images.image0: is required" in message(**{"2": batch})
    linked = node("BatchImagesNode", **{"images.image0": ["1", 0], "images.image1": ["1", 0]})
    assert problems(**{"2": linked}) == []


@pytest.mark.parametrize("options", [{}, {"option1": "a", "option2": ""}])
def test_a_custom_combo_takes_whatever_it_was_given(options: dict[str, str]) -> None:
    combo = node("CustomCombo", choice="b", index=0, **options)
    shown = node("PreviewAny", source=["8", 0])
    assert problems(**{"8": combo, "9": shown}) == []
    (one,) = (f for f in form_of({"8": combo}, object_info()) if f["input"] == "choice")
    assert one.get("choices", []) == ["a"][: len(options)]


@pytest.mark.parametrize(("workflow", "answer"), refusals())
def test_what_comfyui_refused_is_refused_for_the_same_reasons(workflow: Any, answer: Any) -> None:
    lookup = Lookup(workflow, CLASSES.get, lambda: CLASSES)
    theirs = explain(answer, lookup).details
    ours = check.problems(workflow, CLASSES)
    assert {told(detail) for detail in theirs} <= {told(detail) for detail in ours}


def told(detail: Detail) -> tuple[Any, ...]:
    return detail.get("node_id"), detail.get("input"), detail["message"]


FINE = [name for name in names() if not name.startswith(("rules", "fake", "pack", "group"))]


@pytest.mark.parametrize("name", [n for n in FINE if n.startswith(("image_", "video_", "flux"))])
def test_templates_lack_nothing_but_their_files(name: str) -> None:
    for detail in check.problems(pair(name)[1], object_info()):
        assert "not among the choices" in detail["message"] or "input file" in detail["message"]
