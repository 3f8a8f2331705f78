from __future__ import annotations

import base64
import io
import re
from typing import Any

import pytest
from PIL import Image
from rich.cells import cell_len

from local_runpod.client.display import describe_dry_run, describe_failure, describe_timings, say
from local_runpod.client.progress import JobProgress


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Claim it."""
        return True


def running(**output: Any) -> dict[str, Any]:
    return {"status": "IN_PROGRESS", "output": output}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 80 columns with 24 bits of colour."""
    for name, value in {"TERM": "xterm", "COLORTERM": "truecolor", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LINES", "24")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def lines_of(terminal: Terminal) -> list[str]:
    """The texts that were drawn one over the other."""
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "\n", terminal.getvalue())
    return [line for line in re.split(r"[\r\n]+", text) if line]


def test_a_terminal_shows_one_line_that_changes(terminal: Terminal) -> None:
    with JobProgress(terminal) as progress:
        progress.update({"status": "IN_QUEUE"})
        progress.update(running(percent=50, node_id="3", node="KSampler"))
    lines = lines_of(terminal)
    assert "waiting for a worker" in "".join(lines)
    assert lines[-1].endswith("████████████░░░░░░░░░░░░  50 %  KSampler (node 3)")
    assert terminal.getvalue().endswith("\x1b[1A\x1b[2K")  # the line is gone


def test_a_line_never_breaks(terminal: Terminal) -> None:
    with JobProgress(terminal) as progress:
        progress.update(running(percent=5, node_id="3", node="漢字" * 200))
    assert max(cell_len(line) for line in lines_of(terminal)) == 80


def test_elsewhere_each_change_is_a_line_of_its_own() -> None:
    stream = io.StringIO()
    with JobProgress(stream) as progress:
        for percent in (1, 2, 3, 30):
            progress.update(running(percent=percent, node_id="3", node="KSampler"))
    assert [text.lstrip("█░ ") for text in stream.getvalue().splitlines()] == [
        "1 %  KSampler (node 3)",
        "30 %  KSampler (node 3)",
    ]


def test_each_finished_file_is_named_once() -> None:
    stream = io.StringIO()
    with JobProgress(stream) as progress:
        for names in (["a.png"], ["a.png", "b\x1b[2J.png"], "odd", [7]):
            progress.update(running(percent=1, node="X", files=names))
    made = [line for line in stream.getvalue().splitlines() if line.startswith("made")]
    assert made == ["made a.png", "made b\\x1b[2J.png"]


def preview(image: Image.Image, file_format: str = "JPEG") -> dict[str, Any]:
    data = io.BytesIO()
    image.save(data, file_format)
    return {"media_type": "image/jpeg", "data": base64.b64encode(data.getvalue()).decode()}


def test_previews_are_drawn_below_the_line(terminal: Terminal) -> None:
    with JobProgress(terminal) as progress:
        image = Image.new("RGB", (256, 256), (250, 0, 0))
        progress.update(running(percent=5, node="KSampler", preview=preview(image)))
        progress.update(running(percent=6, node="KSampler"))  # the last one stays
    drawn = terminal.getvalue()
    assert drawn.count("▀") >= 2 * 44 * 22  # in 24 lines of 80
    assert re.search(r"38;2;(24\d|25\d);\d;\d;48;2;", drawn)


ODD_PREVIEWS: list[Any] = [
    None,
    7,
    {},
    {"data": 7},
    {"data": "?"},
    {"data": base64.b64encode(b"%!PS-Adobe-3.0 EPSF-3.0").decode()},
    {"data": "A" * 300_000},
    preview(Image.new("RGB", (8, 8)), "TIFF"),
]


@pytest.mark.parametrize("odd", ODD_PREVIEWS, ids=range(len(ODD_PREVIEWS)))
def test_a_preview_that_cannot_be_drawn_is_left_out(terminal: Terminal, odd: Any) -> None:
    with JobProgress(terminal) as progress:
        progress.update(running(percent=5, node="KSampler", preview=odd))
    assert "KSampler" in terminal.getvalue()
    assert "▀" not in terminal.getvalue()


@pytest.mark.parametrize("name", ["NO_COLOR", "TERM"])
def test_where_there_are_no_colours_no_preview_is_drawn(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "dumb")
    with JobProgress(terminal) as progress:
        image = Image.new("RGB", (8, 8))
        progress.update(running(percent=5, node="KSampler", preview=preview(image)))
    assert "▀" not in terminal.getvalue()


@pytest.mark.parametrize(
    "output",
    [None, 7, "text", [], {}, {"percent": "x"}, {"percent": 1e9, "node": 5}, {"percent": True}],
)
def test_progress_of_any_form_is_tolerated(output: Any) -> None:
    stream = io.StringIO()
    with JobProgress(stream) as progress:
        progress.update({"status": "IN_PROGRESS", "output": output})
    assert "%  running" in stream.getvalue()


HOSTILE = "a\x1b[2J\x9b1mb\x07\r\u202ec\x1b]0;title\x07\ud800"


def test_nothing_that_others_wrote_steers_the_terminal(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    say(HOSTILE)
    details = [{"node_id": HOSTILE, "message": HOSTILE}, HOSTILE]
    describe_failure({"status": HOSTILE, "error": HOSTILE, "output": {"details": details}})
    describe_timings({"output": {"timings": {HOSTILE: 1}}}, 1)
    entry = {"node_id": HOSTILE, "input": HOSTILE, "value": HOSTILE, "class_type": HOSTILE}
    describe_dry_run({"inputs": [entry], "models": [{"name": HOSTILE}], "problems": [HOSTILE]})
    printed = capsys.readouterr().out
    assert "a\\x1b[2J\\x9b1mb" in printed
    stream = io.StringIO()
    with JobProgress(stream) as progress:
        progress.update(running(percent=1, node_id=HOSTILE, node=HOSTILE))
        progress.update(running(percent=2, message=HOSTILE))
    for text in (printed, stream.getvalue()):
        assert not set(text.replace("\n", "")) & set("\x1b\x9b\x07\r\u202e\ud800")
    with JobProgress(terminal) as progress:
        progress.update(running(percent=1, node_id="1", node=HOSTILE))
    assert "\x1b[2J" not in terminal.getvalue()
    assert "\x1b]0;" not in terminal.getvalue()


def test_colours_of_a_log_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    say("\x1b[32mgreen\x1b[0m\tand\nplain")
    assert capsys.readouterr().out == "green\tand\nplain\n"


def test_a_dry_run_lists_inputs_as_set_takes_them(capsys: pytest.CaptureFixture[str]) -> None:
    inputs = [
        {"node_id": "6", "input": "text", "value": "a cat", "class_type": "CLIPTextEncode"},
        {"node_id": "3", "input": "seed", "value": 7, "class_type": "KSampler", "title": "Draw"},
    ]
    assert describe_dry_run({"inputs": inputs, "problems": []})
    assert capsys.readouterr().out == (
        '  6.text="a cat"  CLIPTextEncode\n  3.seed=7  Draw\nIt would run.\n'
    )
    assert not describe_dry_run({"problems": [{"node_id": "3", "message": "is wrong"}]})
    assert capsys.readouterr().out == "  - node 3: is wrong\nIt would not run as it is.\n"


def test_a_single_detail_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    detail = {"node_id": "2", "message": "is wrong"}
    describe_failure({"status": "FAILED", "error": "E: is wrong", "output": {"details": [detail]}})
    assert capsys.readouterr().out == "The job is FAILED: E: is wrong\n"


def test_a_failure_without_a_reason_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    describe_failure({"status": "TIMED_OUT"})
    assert capsys.readouterr().out == "The job is TIMED_OUT: no reason was given\n"


def test_timings_are_seconds_or_milliseconds(capsys: pytest.CaptureFixture[str]) -> None:
    output = {"timings": {"execution_ms": 234, "upload_s": 1.25, "odd": "x"}}
    describe_timings({"delayTime": 10, "executionTime": 1500, "output": output}, 2.04)
    assert capsys.readouterr().out == (
        "Time: total 2.0 s, in the queue 10 ms, on the worker 1.5 s\n"
        "      execution 234 ms, upload 1.2 s\n"
    )


def test_a_job_that_is_followed_late_took_as_long_as_it_was_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    describe_timings({"delayTime": 500, "executionTime": 1500}, 0.004)
    assert capsys.readouterr().out.startswith("Time: total 2.0 s, ")
