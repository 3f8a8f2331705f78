"""Joining the history entries of prompts that belong to one job."""

from __future__ import annotations

from typing import Any

from worker_comfyui.comfyui.entry import both

FAILED = {"status_str": "error"}
ENDED = {"status_str": "success"}


def entry(outputs: dict[str, Any], status: dict[str, str]) -> dict[str, Any]:
    return {"outputs": outputs, "status": status, "meta": {key: {} for key in outputs}}


def test_what_both_prompts_reported_is_there_once() -> None:
    first = entry({"1": {"images": ["a"], "flag": [True]}}, ENDED)
    second = entry({"1": {"images": ["a", "b"]}, "2": {"text": ["t"]}}, ENDED)
    joined = both(first, second)
    assert joined["outputs"] == {
        "1": {"images": ["a", "b"], "flag": [True]},
        "2": {"text": ["t"]},
    }
    assert joined["meta"].keys() == {"1", "2"}


def test_a_failure_of_either_prompt_is_the_job_s() -> None:
    good, bad = entry({}, ENDED), entry({}, FAILED)
    assert both(good, bad)["status"] == FAILED
    assert both(bad, good)["status"] == FAILED
    assert both(good, good)["status"] == ENDED


def test_entries_of_odd_shapes_are_joined_all_the_same() -> None:
    assert both({"outputs": None}, {"outputs": {"1": None}})["outputs"] == {"1": {}}
    odd = both({"outputs": {"1": {"a": 1}}}, {"outputs": {"1": {"a": [2]}}})
    assert odd["outputs"] == {"1": {"a": [2]}}
