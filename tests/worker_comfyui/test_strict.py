from __future__ import annotations

import json
import math
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_comfyui.strict import clean, size


class Level(IntEnum):
    """A number that is not quite one."""

    LOW = 1


def as_the_sdk_writes_it(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("value", "cleaned"),
    [
        (float("nan"), None),
        (float("inf"), None),
        (-math.inf, None),
        ([10**5000, -(10**5000), 10**3000], [None, None, 10**3000]),
        (b"\xff\x00", "b'\\xff\\x00'"),
        (Path("/tmp/x.png"), "/tmp/x.png"),  # noqa: S108  # only a name
        (ValueError("why"), "why"),
        ((1, (2,)), [1, [2]]),
        ({1: 2, None: 3, (4, 5): 6}, {"1": 2, "None": 3, "(4, 5)": 6}),
        ({"\ud800": "\udfff"}, {"\ufffd": "\ufffd"}),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83d\ude00", "\N{GRINNING FACE}"),
        ("\ufeffx", "\ufeffx"),
        ("ünï \N{GRINNING FACE} \x00\x7f\u2028", "ünï \N{GRINNING FACE} \x00\x7f\u2028"),
        ([None, True, 1, 1.5, "x", {}, []], [None, True, 1, 1.5, "x", {}, []]),
        (Level.LOW, 1),
    ],
)
def test_what_json_cannot_carry_is_replaced_and_all_else_kept(value: Any, cleaned: Any) -> None:
    assert clean(value) == cleaned
    assert json.loads(json.dumps(clean(value), allow_nan=False)) == cleaned


def test_a_boolean_stays_one() -> None:
    assert clean(value=True) is True


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=8)
    | st.text(st.characters(codec=None, exclude_categories=()), max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False)
            | st.text(st.characters(codec=None, exclude_categories=()), max_size=8),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_like)
def test_anything_cleaned_is_strict_json_in_utf_8(value: Any) -> None:
    text = json.dumps(clean(value), ensure_ascii=False, allow_nan=False)
    assert json.loads(text.encode().decode()) == clean(value)


@given(json_like)
def test_cleaning_again_changes_nothing(value: Any) -> None:
    assert clean(clean(value)) == clean(value)


@given(json_like)
def test_the_size_is_never_below_what_the_sdk_writes_and_close_to_it(value: Any) -> None:
    cleaned = clean(value)
    written = len(as_the_sdk_writes_it(cleaned))
    containers = str(cleaned).count("[") + str(cleaned).count("{")
    assert written <= size(cleaned) <= written + 2 * containers


def test_the_size_of_a_large_result_is_exact_enough() -> None:
    result = {"images": [{"data": "x" * 1_000_000, "filename": "ü.png"}] * 20, "errors": []}
    written = len(as_the_sdk_writes_it(result))
    assert written <= size(result) < written + 100


def test_what_is_not_strict_json_has_no_size() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        size([float("nan")])
