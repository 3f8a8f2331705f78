"""Whatever people send as a workflow is found, in all its wrappings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker_comfyui.workflows.pairs import RESOURCES
from worker_comfyui.errors import InvalidRequest
from worker_comfyui.workflows.sent import Sent, Sources, unwrap

API: dict[str, Any] = {"1": {"class_type": "SaveImage", "inputs": {}}}
GRAPH: dict[str, Any] = {"nodes": [], "links": [], "version": 0.4}
HISTORY = [3, "an id", API, {"extra_pnginfo": {"workflow": GRAPH}}, ["1"]]
MP4 = (RESOURCES / "embedded" / "video.mp4").read_bytes()


def found(value: Any, **sources: Any) -> Sent:
    return unwrap(value, Sources(**sources))


def refusal(value: Any, **sources: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        found(value, **sources)
    assert caught.value.details[0]["path"].startswith("workflow")
    return caught.value.message


@pytest.mark.parametrize(
    ("wrapped", "path"),
    [
        (API, "workflow"),
        ({"prompt": API}, "workflow.prompt"),
        ({"prompt": API, "client_id": "x", "extra_data": {}}, "workflow.prompt"),
        ({"output": API, "workflow": GRAPH}, "workflow.output"),
        ({"workflow": API}, "workflow.workflow"),
        ({"input": {"workflow": API}}, "workflow.input.workflow"),
        ({"input": {"workflow": {"prompt": API}}}, "workflow.input.workflow.prompt"),
        ({"input": json.dumps({"workflow": API})}, "workflow.input.workflow"),
        (json.dumps(API), "workflow"),
        (json.dumps(json.dumps(API)), "workflow"),
        (f"\n  {json.dumps({'prompt': API})}", "workflow.prompt"),
        ({"prompt": json.dumps(API)}, "workflow.prompt"),
        ({"prompt": HISTORY}, "workflow.prompt[2]"),
        ({"an id": {"prompt": HISTORY, "outputs": {}}}, "workflow.an id.prompt[2]"),
    ],
)
def test_the_api_format_is_found(wrapped: Any, path: str) -> None:
    sent = found(wrapped)
    assert (sent.value, sent.path, sent.is_editor) == (API, path, False)


@pytest.mark.parametrize(
    ("wrapped", "path"),
    [
        (GRAPH, "workflow"),
        (json.dumps(GRAPH), "workflow"),
        ({"workflow": GRAPH}, "workflow.workflow"),
        ({"input": {"workflow": GRAPH, "images": []}}, "workflow.input.workflow"),
        ({"prompt": GRAPH}, "workflow.prompt"),
    ],
)
def test_the_editor_s_format_is_found(wrapped: Any, path: str) -> None:
    sent = found(wrapped)
    assert (sent.value, sent.path, sent.is_editor) == (GRAPH, path, True)


@pytest.mark.parametrize(
    "wrapped",
    [
        {"prompt": API, "extra_data": {"extra_pnginfo": {"workflow": GRAPH}}},
        {"output": API, "workflow": GRAPH},
        {"prompt": API, "workflow": GRAPH},
        {"prompt": HISTORY},
    ],
)
def test_the_editor_s_file_that_came_with_it_is_kept(wrapped: Any) -> None:
    assert found(wrapped).graph == GRAPH


def test_a_node_that_is_called_prompt_is_a_node() -> None:
    named = {"prompt": API["1"], "workflow": API["1"], "input": API["1"]}
    assert found(named).value == named


def test_what_a_whole_request_has_besides_is_named() -> None:
    (note,) = found({"workflow": API, "images": [{}], "overrides": {"a": 1}}).notes
    assert note == "workflow is a whole request: its `images`, `overrides` are not used"


@pytest.mark.parametrize("text", ["https://example.com/a.mp4", "data:video/mp4;base64,AAAA"])
def test_a_file_is_loaded_and_its_prompt_is_preferred(text: str) -> None:
    asked: list[tuple[str, str]] = []

    def load(source: str, path: str) -> bytes:
        asked.append((source, path))
        return MP4

    sent = found(text, load=load)
    assert asked == [(text, "workflow")]
    assert sent.value["2"]["class_type"] == "SaveImage"
    assert sent.graph is not None
    assert len(sent.graph["nodes"]) == 2


def test_a_workflow_file_behind_an_address_is_read() -> None:
    assert found("https://a/b.json", load=lambda *_: json.dumps(GRAPH).encode()).value == GRAPH


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_workflow_file_that_a_program_of_windows_wrote_is_read(encoding: str) -> None:
    data = json.dumps(GRAPH).encode(encoding)
    assert found("https://a/b.json", load=lambda *_: data).value == GRAPH
    assert found(f"\ufeff{json.dumps(GRAPH)}").value == GRAPH
    assert found({"prompt": f"\ufeff{json.dumps(API)}"}).value == API


def test_base64_of_a_file_is_a_file() -> None:
    assert found("AAAA" * 100, load=lambda *_: MP4).value["1"]["class_type"] == "EmptyImage"


def test_what_a_file_holds_is_not_followed_to_another_address() -> None:
    loaded = json.dumps("https://internal/secret").encode()
    assert "cannot be read here" in refusal(
        "https://a", load=lambda *_: b'{"workflow": ' + loaded + b"}"
    )


def test_a_name_is_looked_up() -> None:
    assert found("portrait", find=lambda name, _: {"portrait": GRAPH}[name]).value == GRAPH


def test_old_prompts_lose_what_comfyui_added_when_it_ran_them() -> None:
    old = {"1": {"class_type": "A", "inputs": {}, "is_changed": [None], "_meta": {"title": "x"}}}
    chunk = json.dumps({"prompt": json.dumps(old)})
    svg = f"<svg><metadata><![CDATA[{chunk}]]></metadata></svg>".encode()
    sent = found("data:image/svg+xml,x", load=lambda *_: svg)
    assert sent.value == {"1": {"class_type": "A", "inputs": {}, "_meta": {"title": "x"}}}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "is missing"),
        ({}, "has no nodes"),
        ([], "must be an object, not a list"),
        (5, "must be an object, not a number"),
        ("", "is empty"),
        ("{not json", "is a text that is not JSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"1": %s}' % ("9" * 5000), "is not JSON: it has a number of thousands of digits"),
        ("portrait", "is a text, but not JSON"),
        ("https://example.com/a.png", "cannot be read here"),
        ({"a": 1}, "no node in it has a `class_type`"),
        ({"input": {"input": {"prompt": {}}}}, "is not a workflow"),
    ],
)
def test_anything_else_is_refused(value: Any, says: str) -> None:
    assert says in refusal(value)


def test_a_file_with_far_more_json_than_a_workflow_has_is_not_read() -> None:
    data = b"{" + b'"a":[],' * 6_000_000
    says = refusal("https://example.com/a.json", load=lambda *_: data)
    assert "is a file with 42 MB of JSON, more than a workflow needs" in says


def test_wrappings_without_end_are_refused() -> None:
    value: Any = API
    for _ in range(20):
        value = {"input": value}
    assert "wrapped more than 8 times" in refusal(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=6) | st.just(API["1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["input", "prompt", "workflow", "output", "extra_data", "1", "nodes"]),
            inner,
            max_size=3,
        )
        | inner.map(json.dumps)
    ),
    max_leaves=8,
)


@given(value=json_values)
def test_whatever_is_sent_is_found_or_refused_with_a_path(value: Any) -> None:
    try:
        sent = found(value)
    except InvalidRequest as error:
        places = [detail["path"] for detail in error.details]
    else:
        places = [sent.path]
        assert isinstance(sent.value, dict)
    assert places
    assert all(place.startswith("workflow") for place in places)
