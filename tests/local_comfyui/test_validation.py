from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local_comfyui.arguments import parse
from local_comfyui.folders import Folders
from local_comfyui.input_checks import types_match
from local_comfyui.nodes import core_node_classes
from local_comfyui.nodes.core_node import Comfy
from local_comfyui.prompt import AnyType, Json
from local_comfyui.validation import Validation, validate
from tests.local_comfyui.workflows import Prompt, empty_image, node, save

Check = Callable[[Prompt], Validation]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    folders = Folders.from_arguments(parse(["--base-directory", str(tmp_path)]), tmp_path)
    folders.create()
    classes = core_node_classes(Comfy(folders, True, lambda *_: None))
    return lambda prompt: validate(prompt, classes)


def errors_of(verdict: Validation, node_id: str) -> list[tuple[str, str]]:
    """Types and details of a node's errors."""
    entry: Json = verdict.node_errors[node_id]
    return [(error["type"], error["details"]) for error in entry["errors"]]


def test_constants_are_converted_in_place(check: Check) -> None:
    prompt = {
        "1": node("EmptyImage", width="8", height=8.9, batch_size=True, color=0),
        "2": node("PreviewAny", source={"__value__": [1, 2]}),  # how a list is given
        "3": save("1"),
    }

    assert check(prompt).outputs == ["2", "3"]
    assert prompt["1"]["inputs"] == {"width": 8, "height": 8, "batch_size": 1, "color": 0}
    assert prompt["2"]["inputs"]["source"] == [1, 2]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"x": -1}, ("value_smaller_than_min", "x")),
        ({"image": ["1"]}, ("bad_linked_input", "image")),
        ({"image": ["1", 0, 0]}, ("bad_linked_input", "image")),
        ({"image": ["1", 7]}, ("exception_during_inner_validation", "tuple index out of range")),
        ({"image": ["9", 0]}, ("exception_during_inner_validation", "'9'")),
    ],
)
def test_kinds_of_wrong_inputs_that_no_recording_has(
    check: Check, inputs: Json, expected: tuple[str, str]
) -> None:
    given = {"image": ["1", 0], "width": 4, "height": 4, "x": 0, "y": 0, **inputs}
    verdict = check({"1": empty_image(), "2": node("ImageCrop", **given), "3": save("2")})

    assert errors_of(verdict, "2") == [expected]
    assert verdict.node_errors["2"]["dependent_outputs"] == ["3"]


class Picky:
    """Has many options, and checks one of its inputs itself."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @staticmethod
    def INPUT_TYPES() -> Json:  # noqa: N802 - ComfyUI's name
        """Three inputs."""
        numbers = {name: ("INT", {"max": 3}) for name in ("number", "other")}
        return {"required": {"one": ([str(n) for n in range(21)],), **numbers}}

    @classmethod
    def VALIDATE_INPUTS(cls, number: int) -> str | bool:  # noqa: N802 - ComfyUI's name
        """Take the one number that is no good otherwise."""
        return True if number == 7 else "only 7 will do"


def test_a_class_may_check_its_inputs_itself_and_long_lists_are_not_sent_back() -> None:
    good = validate({"1": node("Picky", one="5", number=7, other=1)}, {"Picky": Picky})
    bad = validate({"1": node("Picky", one="x", number=8, other=9)}, {"Picky": Picky})

    assert good.outputs == ["1"]
    assert errors_of(bad, "1") == [
        ("value_not_in_list", "one: 'x' not in (list of length 21)"),
        ("value_bigger_than_max", "other"),
        ("custom_validation_failed", "number - only 7 will do"),
    ]
    assert bad.node_errors["1"]["errors"][0]["extra_info"]["input_config"] is None


def test_ten_thousand_nodes_in_a_row_are_checked(check: Check) -> None:
    prompt: Prompt = {"0": empty_image(), "end": save("9999")}
    for index in range(1, 10_000):
        prompt[str(index)] = node("ImageInvert", image=[str(index - 1), 0])

    assert check(prompt).outputs == ["end"]


def test_types_match_as_in_comfyui() -> None:
    anything = AnyType("*")
    good: list[tuple[Any, Any]] = [("IMAGE", "IMAGE"), ("IMAGE,MASK", "MASK,LATENT")]
    good += [(anything, "MASK"), ("IMAGE", anything), (["a"], ["a"])]
    bad: list[tuple[Any, Any]] = [("IMAGE", "MASK"), ("*", "MASK"), ("IMAGE", "*")]
    bad += [("IMAGE,MASK", "LATENT"), ("STRING", ["a", "b"]), (["a"], ["b"])]

    assert [pair for pair in (*good, *bad) if types_match(*pair)] == good
