"""Hostile requests that reach ComfyUI: clear errors in bounded time, nothing touched outside."""

from __future__ import annotations

import base64
import io
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import wait_until
from tests.support.worker import WorkerUnderTest, running_worker, worker_is_clean
from tests.support.workflows import (
    color_of,
    empty_image,
    file_item,
    input_image,
    node,
    png,
    reporting,
    saved_image,
    saved_input,
)
from worker_comfyui import logs

NODES = 10_000
LONGEST_CHAIN = 901
"""About: ComfyUI follows it by recursion (execution.py, `validate_inputs`), and odd."""
LONG = "x" * 19_000_000
BOUND_S = 25.0
"""Generous for a loaded machine; each of these takes a second or two on an idle one."""


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerUnderTest]:
    base = tmp_path_factory.mktemp("around") / "comfyui"
    (base.parent / "secret.png").parent.mkdir(exist_ok=True)
    (base.parent / "secret.png").write_bytes(png((66, 66, 66)))
    with running_worker(base) as running:
        yield running


def run(worker: WorkerUnderTest, workflow: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Run a job in bounded time; its result must be strict JSON, and nothing may be left."""
    started = time.monotonic()
    result = worker.run({"workflow": workflow, **fields})
    assert time.monotonic() - started < BOUND_S
    json.dumps(result, allow_nan=False, ensure_ascii=False).encode()
    wait_until(lambda: worker_is_clean(worker), BOUND_S)
    around = {path.name for path in worker.base.parent.iterdir()}
    assert around == {"comfyui", "secret.png"}
    return result


@pytest.mark.parametrize(
    "name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "..\\evil.png", "a\r\nX-Evil: 1"]
)  # fmt: skip
def test_an_input_name_cannot_leave_the_input_folder(worker: WorkerUnderTest, name: str) -> None:
    result = run(worker, saved_image(), images=[input_image(name, (0, 0, 0))])

    assert result["error_code"] == "INVALID_REQUEST"
    assert result["details"][0]["path"] == "images[0].name"


@pytest.mark.parametrize(
    "name",
    [
        "apo'strophe.png",
        "semi;colon.png",
        "per%0d%0acent.png",
        "üml äut.png",
        "日本 [x].png",
        "-rf.png",
    ],
)
def test_an_odd_input_name_is_kept_as_it_is(worker: WorkerUnderTest, name: str) -> None:
    result = run(worker, saved_input(name), images=[input_image(name, (4, 5, 6))])

    assert color_of(result["images"][0]) == (4, 5, 6)


@pytest.mark.parametrize(
    "item",
    [
        file_item("../../secret.png"),
        file_item("secret.png", "../.."),
        file_item("secret.png", "a/../../.."),
        {"filename": "SECRET", "subfolder": "", "type": "output"},
        file_item("..\\..\\secret.png"),
        file_item("a\r\nX-Evil: 1"),
        file_item("nul\0.png"),
        file_item("lone \ud800.png"),
        {"filename": 7, "subfolder": None, "type": []},
        {"filename": ["secret.png"], "subfolder": {}, "type": "output"},
    ],
)
def test_a_history_that_points_outside_is_not_followed(
    worker: WorkerUnderTest, item: dict[str, Any]
) -> None:
    if item["filename"] == "SECRET":
        item = {**item, "filename": str(worker.base.parent / "secret.png")}
    workflow = reporting({"files": [item, file_item("fine.bin")]}, {"fine.bin": b"fine"})
    result = run(worker, workflow)

    assert [base64.b64decode(file["data"]) for file in result["files"]] == [b"fine"]
    assert "images" not in result
    assert len(result["errors"]) == 1
    assert (worker.base.parent / "secret.png").read_bytes() == png((66, 66, 66))

    only = run(worker, reporting({"images": [item]}))
    assert only["error_code"] == "OUTPUT_MISSING"
    assert only["details"][0]["node_id"] == "1"


@pytest.mark.parametrize("prefix", ["../../evil", "/etc/evil", "a/../../../evil"])
def test_a_prefix_cannot_leave_the_output_folder(worker: WorkerUnderTest, prefix: str) -> None:
    workflow = {"1": empty_image(), "2": node("SaveImage", images=["1", 0], filename_prefix=prefix)}
    result = run(worker, workflow)

    assert result["error_code"] == "EXECUTION_FAILED"
    assert not list(Path("/etc").glob("evil*"))


def test_values_that_are_not_json_come_out_as_strict_json(worker: WorkerUnderTest) -> None:
    ui = {
        "text": ["lone \ud800 surrogate", "nul \0"],
        "number": [float("nan"), float("inf"), float("-inf"), 1.5],
        "strange": [None, [], {}, 7],
        "text_": {"a": [float("nan")]},
    }
    result = run(worker, reporting(ui))

    assert [text["text"] for text in result["texts"]] == [
        "lone ? surrogate", "nul \0", "NaN", "Infinity", "-Infinity", "1.5", "7", "a"
    ]  # fmt: skip


@pytest.mark.parametrize("depth", [900, 50_000])
def test_a_deeply_nested_output_is_an_answer_or_an_error_but_no_crash(
    worker: WorkerUnderTest, depth: int
) -> None:
    nested = '{"text": ["kept"], "deep": ' + "[" * depth + "]" * depth + "}"
    result = run(worker, {"1": node("TestOutput", ui=nested, files="{}")})

    assert result.get("error_code") == "EXECUTION_FAILED" or result["texts"][0]["text"] == "kept"


@pytest.mark.parametrize(
    "workflow",
    [
        pytest.param({"1": node(LONG)}, id="class"),
        pytest.param(saved_input(LONG), id="choice"),
        pytest.param(
            {"1": empty_image(), "2": node("SaveImage", images=["1", 0], filename_prefix=LONG)},
            id="prefix",
        ),
        pytest.param({"1": node("SaveImage", images=[LONG, 0], filename_prefix="x")}, id="link"),
        pytest.param({LONG: node("SaveImage", filename_prefix="x")}, id="node id"),
        pytest.param({"1": node("TestFail", message=LONG)}, id="exception"),
    ],
)
def test_a_string_of_twenty_megabytes_gives_a_short_error(
    worker: WorkerUnderTest, workflow: dict[str, Any]
) -> None:
    result = run(worker, workflow)

    assert result["error_code"] in {"PROMPT_REJECTED", "EXECUTION_FAILED", "INVALID_WORKFLOW"}
    assert len(json.dumps(result)) < 20_000


def test_ten_thousand_nodes_beside_the_workflow_are_no_trouble(worker: WorkerUnderTest) -> None:
    extra = {f"n{index}": empty_image(index) for index in range(NODES)}
    result = run(worker, {**saved_image(0x00FF00), **extra})

    assert color_of(result["images"][0]) == (0, 255, 0)


def chain(length: int, color: int = 0, **wrong: Any) -> dict[str, Any]:
    """Invert a picture so many times, and save it."""
    first = empty_image(color)
    first["inputs"] |= wrong
    inverts = {
        str(index): node("ImageInvert", image=[str(index - 1), 0]) for index in range(1, length + 1)
    }
    last = node("SaveImage", images=[str(length), 0], filename_prefix="x")
    return {"0": first, **inverts, "last": last}


def test_a_chain_as_long_as_comfyui_can_follow_runs(worker: WorkerUnderTest) -> None:
    result = run(worker, chain(LONGEST_CHAIN, 0xFF0000))

    assert color_of(result["images"][0]) == (0, 255, 255)


def test_a_chain_of_ten_thousand_nodes_is_refused_in_short(worker: WorkerUnderTest) -> None:
    result = run(worker, chain(NODES, width=0))

    assert result["error_code"] == "PROMPT_REJECTED"
    assert len(json.dumps(result)) < 20_000
    assert color_of(run(worker, saved_image(0xFF))["images"][0]) == (0, 0, 255)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({f"n{index}": node(f"Nope{index}") for index in range(NODES)}, id="classes"),
        pytest.param(
            {
                f"n{index}": node("SaveImage", images=["nowhere", 0], filename_prefix="x")
                for index in range(500)
            },
            id="links",
        ),
    ],
)
def test_thousands_of_mistakes_are_told_in_short(
    worker: WorkerUnderTest, broken: dict[str, Any]
) -> None:
    result = run(worker, broken)

    assert result["error_code"] == "PROMPT_REJECTED"
    assert 10 < len(result["details"]) <= 100
    assert len(json.dumps(result)) < 50_000


def test_a_dry_run_that_has_more_to_tell_than_can_be_returned_says_so(
    worker: WorkerUnderTest,
) -> None:
    workflow = {str(i): node(f"Unknown{i}", text="x" * 1500) for i in range(NODES)}
    result = worker.run({"workflow": workflow, "dry_run": True}, id="run-u1")

    assert result["error_code"] == "RESULT_TOO_LARGE"
    assert "at most 10.0 MB can be returned" in result["error"]


def test_a_dry_run_tells_of_a_link_whose_output_is_no_number(worker: WorkerUnderTest) -> None:
    workflow = {"1": node("EmptyImage"), "2": node("PreviewImage", images=["1", {}])}
    problems = worker.run({"workflow": workflow, "dry_run": True})["problems"]
    assert ("2", "images") in [(one["node_id"], one.get("input")) for one in problems]


@pytest.mark.parametrize("fail", [False, True])
def test_a_key_that_a_node_prints_reaches_no_log_and_no_result(
    worker: WorkerUnderTest, fail: bool
) -> None:
    key = "comfyui-0123456789abcdef"
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter(worker.redactor))
    loggers = [logging.getLogger(name) for name in ("worker_comfyui", "comfyui")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
    try:
        result = run(worker, {"1": node("TestTellKey", fail=fail)}, comfy_org_api_key=key)
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)

    assert key not in json.dumps(result)
    assert key not in stream.getvalue()
    assert "prompt queued" in stream.getvalue()
    if fail:
        assert "the key *** is wrong" in result["error"]
    else:
        assert result["texts"] == [{"node_id": "1", "text": "the key is ***"}]
