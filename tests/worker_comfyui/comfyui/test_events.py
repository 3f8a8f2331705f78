from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.recorded import SCENARIOS, transcript
from worker_comfyui.comfyui import ending
from worker_comfyui.comfyui.events import (
    BranchBlocked,
    Ended,
    Event,
    Executed,
    NodesCached,
    NodeStarted,
    Picture,
    Progress,
    QueueLength,
    parse,
)

ID = "044534f2-f367-4234-8364-ccfcca162d8c"
RUN = [
    scenario
    for scenario in SCENARIOS
    if transcript(scenario).entries()
    and scenario not in {"no_client_id", "reconnect_after_the_end"}
]


def events_of(scenario: str, prompt_id: str) -> list[Event]:
    frames = transcript(scenario).frames
    return [event for frame in frames if (event := parse(frame, prompt_id))]


def frame(kind: Any, **data: Any) -> str:
    return json.dumps({"type": kind, "data": {"prompt_id": ID, **data}})


def progress(**state: Any) -> float:
    event = parse(frame("progress_state", nodes={"1": state}), ID)
    assert isinstance(event, Progress)
    return event.nodes["1"]


def test_recorded_progress_is_between_0_and_1() -> None:
    parts = [
        part
        for scenario in SCENARIOS
        for prompt_id in transcript(scenario).entries()
        for event in events_of(scenario, prompt_id)
        if isinstance(event, Progress)
        for part in event.nodes.values()
    ]
    assert len(parts) > 100
    assert all(0 <= part <= 1 for part in parts)


@pytest.mark.parametrize("scenario", RUN)
def test_every_recorded_run_ends_twice_and_is_stored_at_the_second(scenario: str) -> None:
    for prompt_id in transcript(scenario).entries():
        events = events_of(scenario, prompt_id)
        went_well = ending.failure(transcript(scenario).entries()[prompt_id]) is None
        assert [event for event in events if isinstance(event, Ended)] == [
            Ended(stored=False, well=went_well),
            Ended(stored=True),
        ]
        # One more of the queue may come when the next prompt is there.
        assert [e for e in events if not isinstance(e, QueueLength)][-1] == Ended(stored=True)


@pytest.mark.parametrize("scenario", RUN)
def test_the_queue_s_length_is_told_before_every_recorded_run_s_last_frame(scenario: str) -> None:
    (*_, last) = transcript(scenario).entries()
    events = events_of(scenario, last)
    lengths = [e.prompts for e in events[: events.index(Ended(True))] if isinstance(e, QueueLength)]
    assert lengths[-1] == 0


@pytest.mark.parametrize("scenario", RUN)
def test_every_recorded_run_turns_to_nodes_of_its_own_workflow(scenario: str) -> None:
    for prompt_id, entry in transcript(scenario).entries().items():
        workflow = entry["prompt"][2]
        for event in events_of(scenario, prompt_id):
            if isinstance(event, NodeStarted):
                assert event.node_id in workflow
            if isinstance(event, Progress):
                assert set(event.nodes) <= set(workflow)


def test_a_recorded_run_is_seen_step_by_step() -> None:
    (prompt_id,) = transcript("progress_with_previews").entries()
    events = events_of("progress_with_previews", prompt_id)
    assert next(e for e in events if not isinstance(e, QueueLength)) == NodesCached(())
    assert [event.node_id for event in events if isinstance(event, NodeStarted)] == ["1", "2", "3"]
    steps = [
        event.nodes["2"] for event in events if isinstance(event, Progress) and "2" in event.nodes
    ]
    assert sorted(set(steps)) == [0, 0.25, 0.5, 0.75, 1]
    assert steps == sorted(steps)


def test_frames_of_another_prompt_are_not_ours() -> None:
    first, second = transcript("same_prompt_twice").entries()
    frames = transcript("same_prompt_twice").frames
    for one in frames:
        heard = {type(parse(one, first)), type(parse(one, second))}
        assert type(None) in heard or heard == {QueueLength}
    assert events_of("same_prompt_twice", first)
    assert events_of("same_prompt_twice", second)


def test_a_repeated_prompt_says_which_nodes_are_cached() -> None:
    second = list(transcript("same_prompt_twice").entries())[1]
    cached = next(e for e in events_of("same_prompt_twice", second) if isinstance(e, NodesCached))
    assert set(cached.nodes) == set(transcript("same_prompt_twice").entries()[second]["prompt"][2])


def test_a_blocked_branch_is_not_the_end() -> None:
    blocked = frame(
        "execution_error",
        node_id="5",
        node_type="Switch",
        exception_type="ExecutionBlocked",
        exception_message="Execution Blocked: no mask\n",
    )
    assert parse(blocked, ID) == BranchBlocked("5", "Switch", "Execution Blocked: no mask")


def test_what_a_node_reports_comes_when_it_has_ended() -> None:
    output = {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}
    done = frame("executed", node="5", display_node="5", output=output)
    assert parse(done, ID) == Executed("5", output)
    inside = frame("executed", node="5.0.1", display_node="5", output=output)
    assert parse(inside, ID) == Executed("5", output)


@pytest.mark.parametrize("output", [None, [], "a.png"])
def test_a_node_that_reports_no_object_reports_nothing(output: Any) -> None:
    assert parse(frame("executed", node="5", display_node="5", output=output), ID) is None


@pytest.mark.parametrize("kind", ["execution_success", "execution_error", "execution_interrupted"])
def test_each_kind_of_end_is_one(kind: str) -> None:
    ended = Ended(stored=False, well=kind == "execution_success")
    assert parse(frame(kind, exception_type="RuntimeError"), ID) == ended


def test_nodes_made_while_running_show_as_the_node_that_made_them() -> None:
    started = frame("executing", node="7.0.3", display_node="7")
    assert parse(started, ID) == NodeStarted("7")
    nodes = {
        "7.0.1": {"value": 1, "max": 1, "state": "finished", "display_node_id": "7"},
        "7.0.2": {"value": 1, "max": 4, "state": "running", "display_node_id": "7"},
    }
    assert parse(frame("progress_state", nodes=nodes), ID) == Progress({"7": 0.25})


@pytest.mark.parametrize(
    ("state", "part"),
    [
        ({"value": 1, "max": 4}, 0.25),
        ({"value": 0, "max": 0}, 0),
        ({"value": 3, "max": 0}, 0),
        ({"value": None, "max": None}, 0),
        ({}, 0),
        ({"value": 9, "max": 4}, 1),
        ({"value": -1, "max": 4}, 0),
        ({"value": 1, "max": -4}, 0),
        ({"value": float("nan"), "max": 4}, 0),
        ({"value": 1, "max": float("nan")}, 0),
        ({"value": float("inf"), "max": float("inf")}, 0),
        ({"value": 0, "max": 0, "state": "finished"}, 1),
        ({"value": float("nan"), "max": 1, "state": "finished"}, 1),
    ],
)
def test_progress_is_between_0_and_1_whatever_a_node_reports(
    state: dict[str, Any], part: float
) -> None:
    assert progress(**state) == part


@pytest.mark.parametrize(
    "unreadable",
    [
        b"\x00\x00\x00\x01\x00\x00\x00\x03preview",
        b"\x00\x00\x00\x03\x00\x00\x00\x01preview",
        b"\x00\x00\x00\x04\x00\x00\x00\x02{}preview",
        b"\x00\x00\x00\x04\xff\xff\xff\xff{}preview",
        b"\x00\x00\x00",
        b"",
        "",
        "not json",
        "[]",
        "5",
        "null",
        '{"type": "executing"}',
        '{"data": {}}',
        '{"type": "executing", "data": null}',
        '{"type": "executing", "data": []}',
        "[" * 100_000,
        frame("executing"),
        frame("execution_cached", nodes=5),
        frame("progress_state", nodes=[]),
        frame("progress_state", nodes={"1": 5}),
        frame("progress_state", nodes={"1": {"value": "many", "max": 1}}),
        frame("progress_state", nodes={"1": {"value": 10**400, "max": 1}}),
        frame("progress_state"),
        frame("execution_error", exception_type="ExecutionBlocked"),
        frame("VHS_latentpreview", node="1"),
        frame("status"),
        frame(None),
        frame({"a": 1}),
        # After a reconnect ComfyUI repeats the running node, without the prompt's id.
        '{"type": "executing", "data": {"node": "2"}}',
    ],
)
def test_what_is_of_no_use_is_left_alone(unreadable: str | bytes) -> None:
    assert parse(unreadable, ID) is None


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    kind=st.sampled_from(
        ["executing", "progress_state", "execution_cached", "execution_error", "executed"]
    ),
    data=st.dictionaries(
        st.sampled_from(["node", "nodes", "display_node", "exception_type", "node_id"]),
        values
        | st.just("ExecutionBlocked")
        | st.dictionaries(st.text(max_size=3), values, max_size=2),
    ),
)
def test_no_frame_can_raise(kind: str, data: dict[str, Any]) -> None:
    event = parse(frame(kind, **data), ID)
    assert event is None or isinstance(event, Event)


@pytest.mark.parametrize(("number", "media_type"), [(1, "image/jpeg"), (2, "image/png")])
def test_a_picture_comes_with_its_media_type(number: int, media_type: str) -> None:
    event = parse(struct.pack(">II", 1, number) + b"data", ID)
    assert event == Picture(None, media_type, b"data")


def test_a_picture_with_metadata_names_the_node_that_is_shown() -> None:
    metadata = {
        "node_id": "5.0",
        "display_node_id": "5",
        "prompt_id": ID,
        "image_type": "image/png",
    }
    text = json.dumps(metadata).encode()
    sent = struct.pack(">II", 4, len(text)) + text + b"data"
    assert parse(sent, ID) == Picture("5", "image/png", b"data")
    assert parse(sent, "of another prompt") is None


def test_recorded_previews_are_pictures() -> None:
    previews = [
        event
        for frame in transcript("progress_with_previews").frames
        if isinstance(event := parse(frame, ID), Picture)
    ]
    assert previews
    assert all(preview.media_type == "image/jpeg" for preview in previews)
