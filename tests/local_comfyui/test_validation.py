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

METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]

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
        "2": save("1", "x"),
    }

    assert check(prompt).outputs == ["2"]
    assert prompt["1"]["inputs"] == {"width": 8, "height": 8, "batch_size": 1, "color": 0}


def test_a_wrapped_list_is_a_constant(check: Check) -> None:
    prompt = {"1": node("PreviewAny", source={"__value__": [1, 2]})}

    assert check(prompt).error is None
    assert prompt["1"]["inputs"]["source"] == [1, 2]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"x": -1}, ("value_smaller_than_min", "x")),
        ({"y": 99999}, ("value_bigger_than_max", "y")),
        ({"image": ["1"]}, ("bad_linked_input", "image")),
        ({"image": ["1", 0, 0]}, ("bad_linked_input", "image")),
        ({"image": ["1", 7]}, ("exception_during_inner_validation", "tuple index out of range")),
        ({"image": ["9", 0]}, ("exception_during_inner_validation", "'9'")),
        (
            {"width": "wide"},
            ("invalid_input_type", "width, wide, invalid literal for int() with base 10: 'wide'"),
        ),
    ],
)
def test_each_kind_of_wrong_input_has_its_error(
    check: Check, inputs: Json, expected: tuple[str, str]
) -> None:
    given = {"image": ["1", 0], "width": 4, "height": 4, "x": 0, "y": 0, **inputs}
    verdict = check({"1": empty_image(), "2": node("ImageCrop", **given), "3": save("2")})

    assert verdict.error is not None
    assert verdict.error["type"] == "prompt_outputs_failed_validation"
    assert errors_of(verdict, "2") == [expected]
    assert verdict.node_errors["2"]["dependent_outputs"] == ["3"]


def test_long_lists_of_options_are_not_sent_back() -> None:
    class Long:
        RETURN_TYPES = ()
        OUTPUT_NODE = True

        @staticmethod
        def INPUT_TYPES() -> Json:  # noqa: N802 - ComfyUI's name
            return {"required": {"one": ([str(number) for number in range(21)],)}}

    verdict = validate({"1": node("Long", one="x")}, {"Long": Long})

    assert errors_of(verdict, "1") == [("value_not_in_list", "one: 'x' not in (list of length 21)")]
    assert verdict.node_errors["1"]["errors"][0]["extra_info"]["input_config"] is None


def test_a_class_may_check_its_inputs_itself() -> None:
    class Picky:
        RETURN_TYPES = ()
        OUTPUT_NODE = True

        @staticmethod
        def INPUT_TYPES() -> Json:  # noqa: N802 - ComfyUI's name
            return {"required": {"number": ("INT", {"max": 3}), "other": ("INT", {"max": 3})}}

        @classmethod
        def VALIDATE_INPUTS(cls, number: int) -> str | bool:  # noqa: N802 - ComfyUI's name
            return True if number == 7 else "only 7 will do"

    classes = {"Picky": Picky}
    seven = validate({"1": node("Picky", number=7, other=1)}, classes)
    eight = validate({"1": node("Picky", number=8, other=9)}, classes)

    assert seven.outputs == ["1"]
    assert errors_of(eight, "1") == [
        ("value_bigger_than_max", "other"),
        ("custom_validation_failed", "number - only 7 will do"),
    ]


def test_a_cycle_is_refused_without_an_error_of_its_own(check: Check) -> None:
    prompt = {
        "1": node("ImageInvert", image=["2", 0]),
        "2": node("ImageInvert", image=["1", 0]),
        "3": save("2"),
    }
    verdict = check(prompt)

    assert verdict.error is not None
    assert (verdict.outputs, verdict.node_errors) == ([], {})


def test_ten_thousand_nodes_in_a_row_are_checked(check: Check) -> None:
    prompt: Prompt = {"0": empty_image()}
    for index in range(1, 10_000):
        prompt[str(index)] = node("ImageInvert", image=[str(index - 1), 0])
    prompt["end"] = save("9999")

    assert check(prompt).outputs == ["end"]


@pytest.mark.parametrize("prompt", [[1], "text", {"1": None}, {"1": 5}])
def test_what_is_no_prompt_raises(check: Check, prompt: Any) -> None:
    with pytest.raises((TypeError, IndexError)):
        check(prompt)


@pytest.mark.parametrize(
    ("received", "wanted", "match"),
    [
        ("IMAGE", "IMAGE", True),
        ("IMAGE", "MASK", False),
        ("*", "MASK", False),
        ("IMAGE", "*", False),
        (AnyType("*"), "MASK", True),
        ("IMAGE", AnyType("*"), True),
        ("IMAGE,MASK", "MASK,LATENT", True),
        ("IMAGE,MASK", "LATENT", False),
        ("STRING", ["a", "b"], False),
        (["a"], ["a"], True),
        (["a"], ["b"], False),
    ],
)
def test_types_match_as_in_comfyui(received: Any, wanted: Any, match: bool) -> None:
    assert types_match(received, wanted) is match
