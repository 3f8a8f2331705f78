from __future__ import annotations

from typing import Any

import pytest

from tests.support.recorded import SCENARIOS, transcript
from worker_comfyui.comfyui.events import (
    BranchBlocked,
    Ended,
    NodesCached,
    NodeStarted,
    Progress,
    parse,
)
from worker_comfyui.comfyui.tracking import Tracker, Update

WORKFLOW: dict[str, dict[str, Any]] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {}},
    "2": {"class_type": "KSampler", "inputs": {}, "_meta": {"title": "Paint the cat"}},
    "3": {"class_type": "VAEDecode", "inputs": {}, "_meta": None},
    "4": {"class_type": "SaveImage", "inputs": {}, "_meta": {"title": 5}},
}


def updates(scenario: str) -> list[Update]:
    found = []
    for prompt_id, entry in transcript(scenario).entries().items():
        tracker = Tracker(entry["prompt"][2])
        for frame in transcript(scenario).frames:
            event = parse(frame, prompt_id)
            if event and (update := tracker.update(event)):
                found.append(update)
    return found


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if s != "same_prompt_twice"])
def test_a_recorded_run_s_progress_only_rises(scenario: str) -> None:
    percents = [update["percent"] for update in updates(scenario)]
    assert percents == sorted(percents)
    assert all(0 <= percent <= 99 for percent in percents)


def test_a_recorded_run_is_told_with_its_nodes_and_percent() -> None:
    told = updates("progress_with_previews")
    assert list(dict.fromkeys(update["node_id"] for update in told)) == ["1", "2", "3"]
    sampled = [u["node_percent"] for u in told if u["node_id"] == "2"]
    assert sampled[0] == 0
    assert {25, 50, 75, 100} <= set(sampled)
    assert told[-1]["percent"] == 99


def test_a_node_is_told_by_its_title() -> None:
    assert Tracker(WORKFLOW).update(NodeStarted("2")) == {
        "percent": 0,
        "node_id": "2",
        "node": "KSampler",
        "node_percent": 0,
        "message": "0 %: running Paint the cat",
    }


@pytest.mark.parametrize("node_id", ["1", "3", "4"])
def test_a_node_without_a_usable_title_is_told_by_its_class(node_id: str) -> None:
    update = Tracker(WORKFLOW).update(NodeStarted(node_id))
    assert update is not None
    assert update["message"] == f"0 %: running {WORKFLOW[node_id]['class_type']}"


def test_cached_nodes_count_as_done() -> None:
    tracker = Tracker(WORKFLOW)
    assert tracker.update(NodesCached(("1", "foreign"))) is None
    update = tracker.update(NodeStarted("2"))
    assert update is not None
    assert update["percent"] == 25


def test_a_node_that_begins_anew_does_not_lower_the_percent() -> None:
    tracker = Tracker(WORKFLOW)
    tracker.update(NodeStarted("2"))
    first = tracker.update(Progress({"1": 1.0, "2": 0.8}))
    again = tracker.update(Progress({"1": 1.0, "2": 0.0}))
    assert first is not None
    assert again is not None
    assert again["percent"] == first["percent"] == 45
    assert again["node_percent"] == 0


def test_all_done_is_99_percent_until_the_result_is_there() -> None:
    tracker = Tracker(WORKFLOW)
    tracker.update(NodeStarted("4"))
    update = tracker.update(Progress(dict.fromkeys(WORKFLOW, 1.0)))
    assert update is not None
    assert update["percent"] == 99


def test_progress_before_any_node_and_of_foreign_nodes_is_not_told() -> None:
    tracker = Tracker(WORKFLOW)
    assert tracker.update(Progress({"1": 0.5})) is None
    assert tracker.update(NodeStarted("foreign")) is None


def test_other_events_are_not_progress() -> None:
    tracker = Tracker(WORKFLOW)
    tracker.update(NodeStarted("1"))
    assert tracker.update(Ended(stored=False)) is None
    assert tracker.update(BranchBlocked("1", "X", "no")) is None


def test_a_huge_title_does_not_make_a_huge_update() -> None:
    huge = "x" * 1_000_000
    workflow = {huge: {"class_type": huge, "inputs": {}, "_meta": {"title": huge}}}
    update = Tracker(workflow).update(NodeStarted(huge))
    assert update is not None
    assert len(str(update)) < 500
