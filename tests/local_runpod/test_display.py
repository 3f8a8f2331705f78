from __future__ import annotations

import io
from typing import Any

import pytest

from local_runpod.client.display import ProgressLine, describe_failure, describe_timings


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Claim it."""
        return True


def running(**output: Any) -> dict[str, Any]:
    return {"status": "IN_PROGRESS", "output": output}


def test_a_terminal_shows_one_line_that_changes() -> None:
    stream = Terminal()
    line = ProgressLine(stream)
    line.update({"status": "IN_QUEUE"})
    line.update(running(percent=50, node_id="3", node="KSampler"))
    line.close()
    text = stream.getvalue()
    assert "\n" not in text
    assert "waiting for a worker" in text
    assert "████████████░░░░░░░░░░░░  50 %  KSampler (node 3)" in text
    assert text.endswith("\r\x1b[K")


def test_a_line_never_breaks() -> None:
    stream = Terminal()
    ProgressLine(stream).update(running(percent=5, node_id="3", node="N" * 200))
    assert len(stream.getvalue().removeprefix("\r\x1b[K")) <= 79


def test_elsewhere_each_change_is_a_line_of_its_own() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    for percent in (1, 2, 3, 30):
        line.update(running(percent=percent, node_id="3", node="KSampler"))
    line.close()
    assert [text.lstrip("█░ ") for text in stream.getvalue().splitlines()] == [
        "1 %  KSampler (node 3)",
        "30 %  KSampler (node 3)",
    ]


@pytest.mark.parametrize(
    "output",
    [None, 7, "text", [], {}, {"percent": "x"}, {"percent": 1e9, "node": 5}, {"percent": True}],
)
def test_progress_of_any_form_is_tolerated(output: Any) -> None:
    stream = io.StringIO()
    ProgressLine(stream).update({"status": "IN_PROGRESS", "output": output})
    assert "%  running" in stream.getvalue()


def test_a_single_detail_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    detail = {"node_id": "2", "message": "is wrong"}
    describe_failure({"status": "FAILED", "error": "E: is wrong", "output": {"details": [detail]}})
    assert capsys.readouterr().out == "The job is FAILED: E: is wrong\n"


def test_a_failure_without_a_reason_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    describe_failure({"status": "TIMED_OUT"})
    assert capsys.readouterr().out == "The job is TIMED_OUT: no reason was given\n"


def test_timings_are_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    output = {"timings": {"execution_ms": 234, "upload_s": 1.25, "odd": "x"}}
    describe_timings({"delayTime": 10, "executionTime": 1500, "output": output}, 2.04)
    assert capsys.readouterr().out == (
        "Time: total 2.0 s, in the queue 0.0 s, on the worker 1.5 s\n"
        "      execution 0.2 s, upload 1.2 s\n"
    )
