"""Overrides set exactly the input that is meant, to a value that it takes."""

from __future__ import annotations

from collections.abc import Collection
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker_comfyui.workflows.pairs import object_info
from worker_comfyui.errors import Detail, InvalidRequest
from worker_comfyui.workflows.overrides import MAX_OVERRIDES, Overridden, apply
from worker_comfyui.workflows.values import Takes

Json = dict[str, Any]


def node(class_type: str, title: str = "", **inputs: Any) -> Json:
    return {"class_type": class_type, "inputs": inputs} | (
        {"_meta": {"title": title}} if title else {}
    )


WORKFLOW: Json = {
    "1": node("CheckpointLoaderSimple", ckpt_name="m.safetensors"),
    "2": node("CLIPTextEncode", "Positive prompt", text="a", clip=["1", 1]),
    "12:34": node("CLIPTextEncode", "Negative", text="b", clip=["1", 1]),
    "3": node("KSampler", "Sampler v1.5", seed=1, steps=20, cfg=8.0, sampler_name="euler"),
    "4": node("LoadImage", "Input", image="a.png"),
    "5": node("PrimitiveBoolean", value=False),
    "6": {"class_type": "BatchImagesNode", "inputs": {"images.image0": ["4", 0]}},
    "7": node("SomethingUnknown", anything=1),
    "8": node("EmptyImage", "Input", width=64, height=64, batch_size=1, color=0),
}


def set_(overrides: Any, known: Collection[str] = ()) -> Overridden:
    takes = Takes(WORKFLOW, known, Random(1))  # noqa: S311
    return apply(WORKFLOW, overrides, object_info(), takes)


def one(key: str, value: Any, **more: Any) -> Any:
    """The value that a single override sets, found by comparing all inputs."""
    result = set_({key: value}, **more).workflow
    changed = [
        node["inputs"][name]
        for node_id, node in result.items()
        for name in node["inputs"]
        if node["inputs"][name] != WORKFLOW[node_id]["inputs"].get(name)
    ]
    assert len(changed) == 1
    return changed[0]


def test_a_combo_of_several_choices_takes_a_list() -> None:
    which = ["COMBO", {"options": ["a", "b"], "multiselect": True, "multi_select": {}}]
    info = {"Several": {"input": {"required": {"which": which}}}}
    workflow = {"1": node("Several", which={"__value__": []})}
    takes = Takes(workflow, (), Random(1))  # noqa: S311
    changed = apply(workflow, {"1.which": ["a", "b"]}, info, takes)
    assert changed.workflow["1"]["inputs"]["which"] == {"__value__": ["a", "b"]}


OPTIONS = {"option1": "add", "option2": "screen", "option3": ""}


def choosing(value: Any, *, key: str = "choice", **inputs: Any) -> Json:
    """What a CustomCombo has once an input, as a rule its choice, is overridden."""
    workflow = {"1": node("CustomCombo", **inputs), "2": node("PrimitiveString", value="x")}
    takes = Takes(workflow, (), Random(1))  # noqa: S311
    result = apply(workflow, {f"CustomCombo.{key}": value}, object_info(), takes)
    changed: Json = result.workflow["1"]["inputs"]
    return changed


def test_a_custom_combo_takes_its_own_options_and_its_index_follows() -> None:
    inputs: Json = {"choice": "add", "index": 0, **OPTIONS}
    assert choosing("screen", **inputs) == {**inputs, "choice": "screen", "index": 1}
    assert choosing(["2", 0], **inputs) == {**inputs, "choice": ["2", 0]}
    assert choosing(7, key="index", **inputs) == {**inputs, "index": 7}
    with pytest.raises(InvalidRequest, match="not among the choices; did you mean 'screen'"):
        choosing("scren", **inputs)


def test_a_custom_combo_without_options_takes_any_text() -> None:
    assert choosing("screen", choice="add") == {"choice": "screen"}


def refused(key: str, value: Any, **more: Any) -> Detail:
    with pytest.raises(InvalidRequest) as caught:
        set_({key: value}, **more)
    (detail,) = caught.value.details
    assert detail["path"] == f"overrides[{key!r}]"
    return detail


@pytest.mark.parametrize(
    ("key", "node_id", "name"),
    [
        ("2.text", "2", "text"),
        ("12:34.text", "12:34", "text"),
        ("Positive prompt.text", "2", "text"),
        ("Negative.text", "12:34", "text"),
        ("KSampler.seed", "3", "seed"),
        ("Sampler v1.5.steps", "3", "steps"),
        ("PrimitiveBoolean.value", "5", "value"),
        ("Input.image", "4", "image"),
        ("Input.width", "8", "width"),
        ("KSampler.latent_image", "3", "latent_image"),
        ("6.images.image1", "6", "images.image1"),
        ("7.anything", "7", "anything"),
    ],
)
def test_an_input_is_named_by_id_title_or_class(key: str, node_id: str, name: str) -> None:
    result = set_({key: ["4", 0]}).workflow
    assert result[node_id]["inputs"][name] == ["4", 0]


def test_the_original_stays_as_it_is() -> None:
    set_({"2.text": "new"})
    assert WORKFLOW["2"]["inputs"]["text"] == "a"


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("9.text", "no node has the id, title or class '9'"),
        ("Ksampler.seed", "did you mean 'KSampler'?"),
        ("KSampler.sed", "node 3 (KSampler) has no input 'sed'; did you mean 'seed'?"),
        ("text", "must name a node and its input"),
        ("CLIPTextEncode.text", "names 2 nodes with `text`; use an id: '2.text', '12:34.text'"),
    ],
)
def test_a_name_that_is_unknown_or_ambiguous_lists_candidates(key: str, says: str) -> None:
    assert says in refused(key, "x")["message"]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("3.steps", "20", "is '20', but takes INT"),
        ("3.steps", 2.5, "is 2.5, but takes INT"),
        ("3.steps", True, "is True, but takes INT"),
        ("3.steps", 0, "is 0, but must be at least 1 and at most 10000"),
        ("3.seed", 2**64, "must be at least 0 and at most 18446744073709551615"),
        ("3.cfg", "high", "is 'high', but takes FLOAT"),
        ("3.cfg", 101, "is 101, but must be at least 0.0 and at most 100.0"),
        ("2.text", 5, "is 5, but takes STRING"),
        ("5.value", "yes", "is 'yes', but takes BOOLEAN"),
        ("5.value", 1, "is 1, but takes BOOLEAN"),
        ("3.sampler_name", "eule", "not among the choices; did you mean 'euler'?"),
        ("3.sampler_name", None, "must be a value, not null"),
        ("4.image", "new.png", "there is no input file 'new.png': send it in `images`"),
        ("4.image", "https://example.com/a.png", 'send "images": [{"name": "input.png"'),
        ("4.image", "/home/me/a.png", "a path on another machine is of no use here"),
        ("4.image", "a.png [output]", "output and temp folders are empty"),
        ("2.clip", "x", "takes CLIP, which only a link can give"),
        ("2.text", ["99", 0], "is a link to node 99, which does not exist"),
        ("2.text", ["1", 0.5], "is a link to node 1, whose outputs have the numbers 0, 1, ..."),
        ("3.steps", "random", "`random` is for seeds"),
    ],
)
def test_a_value_that_the_input_does_not_take_is_refused(key: str, value: Any, says: str) -> None:
    detail = refused(key, value)
    assert says in detail["message"]
    assert detail["node_id"] == key.partition(".")[0]
    assert detail["class_type"]


@pytest.mark.parametrize(
    ("key", "value", "result"),
    [
        ("3.steps", 30.0, 30),
        ("3.cfg", 7, 7),
        ("2.text", ["5", 0], ["5", 0]),
        ("2.clip", ["1", 0], ["1", 0]),
        ("3.sampler_name", "heun", "heun"),
        ("7.anything", [1, 2, 3], {"__value__": [1, 2, 3]}),
    ],
)
def test_a_value_that_the_input_takes_is_set(key: str, value: Any, result: Any) -> None:
    assert one(key, value) == result


def test_a_file_that_comes_with_the_request_is_a_choice() -> None:
    assert "there is no input file" in refused("4.image", "new.png")["message"]
    assert one("4.image", "new.png", known={"new.png"}) == "new.png"


def test_a_random_seed_is_drawn_within_its_bounds_and_told() -> None:
    result = set_({"KSampler.seed": "random"})
    seed = result.drawn["3.seed"]
    assert result.workflow["3"]["inputs"]["seed"] == seed
    assert 0 <= seed <= 2**64 - 1


def test_a_seed_without_an_end_is_drawn_all_the_same() -> None:
    endless = {"control_after_generate": True, "min": -float("inf"), "max": float("inf")}
    info = {**object_info(), "KSampler": {"input": {"required": {"seed": ["INT", endless]}}}}
    takes = Takes(WORKFLOW, (), Random(1))  # noqa: S311
    result = apply(WORKFLOW, {"KSampler.seed": "random"}, info, takes)
    assert result.drawn["3.seed"] >= 0


def test_two_names_of_one_input_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"sets the same input as '3\.seed'"):
        set_({"3.seed": 1, "KSampler.seed": 2})


def test_a_name_of_endless_dots_is_refused_at_once() -> None:
    with pytest.raises(InvalidRequest, match="is longer than 1,000 characters"):
        set_({"." * 1_000_000: 1})


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        set_({"3.steps": "x", "9.a": 1, "2.text": 1})
    assert len(caught.value.details) == 3


@pytest.mark.parametrize("overrides", [[], "x", 5, {str(n): n for n in range(MAX_OVERRIDES + 1)}])
def test_anything_but_an_object_of_some_entries_is_refused(overrides: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        set_(overrides)
    assert caught.value.details[0]["path"] == "overrides"


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["random", "euler", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
places = st.sampled_from(
    ["3.seed", "3.cfg", "3.sampler_name", "2.text", "2.clip", "4.image", "5.value", "7.anything"]
)


@given(overrides=st.dictionaries(places | st.text(max_size=8), values, max_size=4))
def test_whatever_is_sent_is_set_or_refused_with_paths(overrides: Any) -> None:
    try:
        workflow = set_(overrides).workflow
    except InvalidRequest as error:
        details = error.details
        assert details
    else:
        details = []
        assert workflow.keys() == WORKFLOW.keys()
    assert all(detail["path"].startswith("overrides[") for detail in details)
