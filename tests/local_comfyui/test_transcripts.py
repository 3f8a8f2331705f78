"""Replays what the real ComfyUI 0.3.64 was recorded to answer."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local_comfyui import transcripts
from tests.local_comfyui.conftest import NODES
from tests.local_comfyui.transcripts import Json, Normal, Replay
from tests.support.comfyui import ComfyUI, running_comfyui

# What the client does, or how long a node sleeps, decides here how many steps are seen.
SEEN_IN_PART = ("cancel_queued_and_running", "reconnect_after_the_end", "reconnect_while_running")
# Has nodes that the stand-in does not have.
OUTPUTS_ALONE = "other_outputs"
SCENARIOS = sorted({path.stem for path in transcripts.TRANSCRIPTS.glob("*.json")} - {OUTPUTS_ALONE})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """One server for all scenarios, as when they were recorded."""
    base: Path = tmp_path_factory.mktemp("transcripts")
    transcripts.prepare_input(base)
    with running_comfyui(base, NODES) as comfyui:
        yield comfyui


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_recorded_requests_get_the_recorded_answers(name: str, server: ComfyUI) -> None:
    scenario = transcripts.load(name)
    result = transcripts.replay(scenario, server)

    expected, actual = both_sides(scenario, result, server.base)
    for exchange, answer in zip(scenario["http"], result.answers, strict=True):
        request = f"{exchange['request']['method']} {exchange['request']['path']}"
        recorded = exchange["response"]
        assert answer.status_code == recorded["status"], f"{request}\n{answer.text}\n{server.log()}"
        compare_headers(request, recorded.get("headers", {}), dict(answer.headers))
        compare_bodies(request, expected, recorded["body"], actual, answer)
    frames = comparable(expected, transcripts.recorded_frames(scenario))
    live = comparable(actual, result.frames)
    if name in SEEN_IN_PART:
        compare_frames_seen_in_part(frames, live)
    else:
        assert by_node(live) == by_node(frames)
        if all(len(entry["prompt"][4]) < 2 for entry in _recorded_entries(scenario)):
            assert live == frames


def test_nodes_report_their_files_as_recorded(server: ComfyUI) -> None:
    scenario = transcripts.load(OUTPUTS_ALONE)
    prompt: Json = scenario["http"][0]["request"]["body"]["prompt"]
    for node_id in [key for key, node in prompt.items() if "Latent" in node["class_type"]]:
        del prompt[node_id]
    (recorded,) = _recorded_entries(scenario)
    outputs = {key: shown for key, shown in recorded["outputs"].items() if key in prompt}
    normal = Normal({}, "/", relative_counters=False)

    assert len(outputs) > 3
    assert normal(server.run(prompt)["outputs"]) == normal(outputs)


def both_sides(scenario: Json, result: Replay, base: Path) -> tuple[Normal, Normal]:
    """The normalisation of the recording, and that of the replay."""
    names = {old: f"prompt {index}" for index, old in enumerate(result.ids)}
    prompts = [
        (exchange["response"]["body"], answer.json())
        for exchange, answer in zip(scenario["http"], result.answers, strict=True)
        if exchange["request"]["path"] == "/prompt"
        and exchange["request"]["method"] == "POST"
        and answer.status_code == 200
    ]
    first_numbers = [side["number"] for side in prompts[0]] if prompts else [0, 0]
    one_branch = all(
        len(entry["outputs"]) < 2 for entry in _recorded_entries(scenario)
    )  # with several output nodes, their order decides who gets which counter
    recorded = Normal(names, "/comfyui", one_branch, first_numbers[0])
    live_names = {result.ids[old]: name for old, name in names.items()}
    live = Normal(live_names, str(base), one_branch, first_numbers[1])
    return recorded, live


def _recorded_entries(scenario: Json) -> list[Json]:
    return [
        entry
        for exchange in scenario["http"]
        if exchange["request"]["path"].startswith("/history/")
        for entry in exchange["response"]["body"].values()
    ]


def compare_headers(request: str, recorded: Json, live: Json) -> None:
    for name, value in recorded.items():
        # Sizes of bodies with ids and times differ; of empty ones they do not.
        if name == "Content-Length" and value != "0":
            continue
        assert live.get(name, "").partition(";")[0] == value.partition(";")[0], request


def compare_bodies(
    request: str, expected: Normal, recorded: Any, actual: Normal, answer: Any
) -> None:
    if isinstance(recorded, str) or (isinstance(recorded, dict) and "bytes" in recorded):
        _compare_raw(request, recorded, answer)
        return
    live = answer.json()
    if "/system_stats" in request:
        assert _keys(live) == _keys(recorded)
    elif "/object_info/LoadImage" in request:
        # The rest of it is compared in test_object_info.
        assert "example.png" in live["LoadImage"]["input"]["required"]["image"][0]
    else:
        assert actual(live) == expected(recorded), request


def _compare_raw(request: str, recorded: Any, answer: Any) -> None:
    if isinstance(recorded, str):
        if not recorded.endswith("of HTML"):
            assert answer.text == recorded, request
        return
    begin = base64.b64decode(recorded["starts"])
    # A PNG's first 29 bytes hold its size and its kind; what follows depends on the library.
    assert answer.content[:29] == begin[:29], request
    assert bool(answer.content) == bool(recorded["bytes"]), request


def _keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _keys(entry) for name, entry in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_keys(entry) for entry in value]
    return "value"


def comparable(normal: Normal, frames: list[Any]) -> list[Any]:
    return [
        transcripts.binary_summary(frame)
        if isinstance(frame, bytes) or "binary" in frame
        else normal(frame)
        for frame in transcripts.without_repetition(frames)
    ]


def by_node(frames: list[Any]) -> list[Any]:
    """The frames, with those of each node moved together and the nodes sorted.

    The order of output nodes is arbitrary in ComfyUI: it goes through a set.
    """
    first = next((index for index, frame in enumerate(frames) if node_of(frame)), len(frames))
    inner = [frame for frame in frames[first:] if node_of(frame)]
    outer = [frame for frame in frames[first:] if not node_of(frame)]
    return frames[:first] + sorted(inner, key=node_of) + outer


def node_of(frame: Json) -> str:
    """The node that a comparable frame is about, or an empty text."""
    if frame.get("type") == "progress_state":
        return next(iter(frame["changed"]), "")
    if frame.get("type") in ("executing", "executed", "progress"):
        return frame["data"]["node"] or ""
    return frame["data"]["node_id"] if frame.get("type") == "execution_error" else ""


def compare_frames_seen_in_part(recorded: list[Any], live: list[Any]) -> None:
    assert statuses(live) == statuses(recorded)
    assert without_steps(live) == without_steps(recorded)
    assert bool(steps(live)) == bool(steps(recorded))
    assert steps(live) == sorted(set(steps(live)))


def statuses(frames: list[Any]) -> list[Any]:
    return [frame for frame in frames if frame.get("type") == "status"]


def without_steps(frames: list[Any]) -> list[Any]:
    """Without the progress inside a node, and without status frames, which come in between."""
    return [
        frame
        for frame in frames
        if frame.get("type") not in ("progress", "status") and not is_step(frame)
    ]


def is_step(frame: Json) -> bool:
    states = frame.get("changed", {}).values() if frame.get("type") == "progress_state" else ()
    return any(state["state"] == "running" and state["value"] > 0 for state in states)


def steps(frames: list[Any]) -> list[float]:
    return [frame["data"]["value"] for frame in frames if frame.get("type") == "progress"]
