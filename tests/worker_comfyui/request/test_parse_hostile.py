"""`request.parse` on hostile requests, and on thousands of drawn ones."""

from __future__ import annotations

import copy
import json
import time
from posixpath import normpath
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.worker_comfyui.request.sent import NODE, REQUEST, WORKFLOW, error_of, named
from worker_comfyui.errors import InvalidRequest, InvalidWorkflow, JobError
from worker_comfyui.job import Job
from worker_comfyui.request.parse import parse
from worker_comfyui.request.problems import MAX_DETAILS
from worker_comfyui.request.shape import MAX_NESTING

SECONDS = 20.0
"""No request may take longer, however hostile; most take less than a millisecond."""

# Hostile requests: bounded in time and in what is said


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def nodes(count: int, node: Any) -> dict[str, Any]:
    return {"workflow": {str(index): copy.copy(node) for index in range(count)}}


HOSTILE = {
    "10,000 good nodes": nodes(10_000, NODE),
    "10,000 wrong nodes": nodes(10_000, 5),
    "a million wrong nodes": nodes(1_000_000, 0),
    "deep nesting": {"workflow": {"1": {"class_type": "X", "inputs": {"a": nested(900)}}}},
    "a 20 MB string": {"workflow": {"1": {"class_type": "X", "inputs": {"a": "x" * 20_000_000}}}},
    "a 20 MB class name": {"workflow": {"1": {"class_type": "x" * 20_000_000, "inputs": {}}}},
    "a 20 MB name": named("x" * 20_000_000),
    "a 20 MB node id": {"workflow": {"x" * 20_000_000: 5}},
    "a long node id over many lists": {
        "workflow": {"x" * 1_000_000: {"class_type": "X", "inputs": {"a": [[]] * 200_000}}}
    },
    "many NaN": {"workflow": {"1": {"class_type": "X", "inputs": {"a": [float("nan")] * 10**6}}}},
    "many unknown fields": {"workflow": WORKFLOW, **{f"workflo{i}": 1 for i in range(200_000)}},
    "many unknown options": {"workflow": WORKFLOW, "output": {str(i): 1 for i in range(200_000)}},
    "a 20 MB field name": {"workflow": WORKFLOW, "x" * 20_000_000: 1},
    "a nested option": {"workflow": WORKFLOW, "output": {"format": nested(900)}},
    "as many files as are taken": named(*(f"{index}.png" for index in range(1000))),
    "a list of wrong files": {"workflow": WORKFLOW, "images": [0] * 1000},
}


def checked(raw: dict[str, Any]) -> Job | JobError:
    """Parse, and check what holds for every answer."""
    started = time.monotonic()
    answer: Job | JobError
    try:
        answer = parse(raw)
    except JobError as error:
        answer = error
    assert time.monotonic() - started < SECONDS
    if isinstance(answer, JobError):
        assert type(answer) in {InvalidRequest, InvalidWorkflow}
        assert answer.as_result()["error_code"] == answer.code
        assert 1 <= len(answer.details) <= MAX_DETAILS
        for detail in answer.details:
            assert set(detail) == {"path", "message"}
            assert detail["path"]
            assert detail["message"]
        # What goes back to the caller is small, and valid JSON in valid UTF-8.
        told = json.dumps(answer.as_result(), ensure_ascii=False, allow_nan=False).encode()
        assert len(told) < 1_000_000
    return answer


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_request_is_answered_in_bounded_time(kind: str) -> None:
    checked({"id": "1", "input": HOSTILE[kind]})


@pytest.mark.parametrize("kind", ["10,000 good nodes", "a 20 MB string"])
def test_a_large_request_is_not_wrong_for_its_size(kind: str) -> None:
    assert isinstance(checked({"id": "1", "input": HOSTILE[kind]}), Job)


def test_nesting_is_taken_up_to_the_limit() -> None:
    # The workflow, the node and its inputs are three levels themselves.
    for levels, fits in ((MAX_NESTING - 3, True), (MAX_NESTING - 2, False)):
        sent = {"workflow": {"1": {"class_type": "X", "inputs": {"a": nested(levels)}}}}
        assert isinstance(checked({"id": "1", "input": sent}), Job) is fits


def test_more_problems_than_are_told_are_said_to_be_more() -> None:
    error = error_of(nodes(10_000, 5))
    assert len(error.details) == MAX_DETAILS
    assert f"(and at least {MAX_DETAILS - 1} more problems, see `details`)" in error.message


# Thousands of them: 2,800 drawn requests in each run.

# Any code point, lone surrogates and control characters included.
anything_textual = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
hostile_texts = st.sampled_from(
    (
        *(
            "",
            " ",
            "..",
            "../../etc/passwd",
            "/",
            "a\x00b",
            "\ud800",
            "nodes",
            "a" * 300,
            "${HOME}",
        ),
        *("http://169.254.169.254/", "data:,", "data:image/png;base64,", "file:///etc/passwd"),
        *("\r\nSet-Cookie: x", "%2e%2e%2f", "con", "{{7*7}}", "'; DROP TABLE", "NaN", "{}", "[]"),
    )
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True, allow_infinity=True)
    | anything_textual
    | hostile_texts
)
keys = anything_textual | st.sampled_from(
    (
        *("workflow", "images", "files", "output", "name", "image", "data", "class_type", "inputs"),
        *("timeout_s", "comfy_org_api_key", "nodes", "links", "prompt", "format", "_meta"),
    )
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a request, the whole first."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


PLACES = places(REQUEST)[1:]


def changed(place: tuple[Any, ...], value: Any, *, rename: str | None, remove: bool) -> Any:
    raw = copy.deepcopy(REQUEST)
    parent: Any = raw
    for key in place[:-1]:
        parent = parent[key]
    if remove:
        del parent[place[-1]]
    elif rename is not None and isinstance(parent, dict):
        parent[rename] = parent.pop(place[-1])
    else:
        parent[place[-1]] = value
    return raw


@settings(max_examples=1000)
@given(sent=json_values)
@example(sent={"workflow": {"\ud800": {"class_type": "\ud800", "inputs": {"\ud800": "\ud800"}}}})
def test_any_json_as_input_gets_a_job_or_an_error_with_paths(sent: Any) -> None:
    checked({"id": "1", "input": sent})


@settings(max_examples=1000)
@given(
    place=st.sampled_from(PLACES),
    value=json_values,
    rename=st.none() | keys,
    remove=st.booleans(),
)
def test_a_request_with_one_thing_changed_gets_a_job_or_an_error_with_paths(
    place: tuple[Any, ...],
    value: Any,
    rename: str | None,
    remove: bool,
) -> None:
    checked(changed(place, value, rename=rename, remove=remove))


@settings(max_examples=250)
@given(text=anything_textual | json_values.map(json.dumps))
def test_any_text_as_input_gets_a_job_or_an_error_with_paths(text: str) -> None:
    checked({"id": "1", "input": text})


@settings(max_examples=250)
@given(
    raw=st.fixed_dictionaries({}, optional=dict.fromkeys(["id", "input", "s3Config"], json_values))
)
def test_any_job_gets_a_job_or_an_error_with_paths(raw: dict[str, Any]) -> None:
    checked(raw)


@settings(max_examples=300)
@given(name=anything_textual)
def test_a_name_that_is_taken_stays_inside_its_folder(name: str) -> None:
    answer = checked({"id": "1", "input": named(name)})
    if isinstance(answer, Job):
        (file,) = answer.files
        assert file.name == normpath(name)
        assert not name.startswith("/")
        assert not {"", ".", ".."} & set(file.name.split("/"))
        assert not {"\\", "\x00", "\n", "\r"} & set(name)
        name.encode()
