from __future__ import annotations

import logging

import pytest

from worker_comfyui.comfyui.process.log_lines import (
    MAX_LINE_BYTES,
    MAX_TRACEBACK_LINES,
    Budget,
    Lines,
    Record,
    Records,
)

TRACEBACK = """\
Traceback (most recent call last):
  File "execution.py", line 496, in execute
    run()
ValueError: no such thing"""
CHAINED = f"""\
{TRACEBACK}

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "nodes.py", line 1, in run
RuntimeError: it failed"""
LONG = """\
Traceback (most recent call last):
  File "a.py", line 1, in <module>
torch.AcceleratorError: CUDA error: device-side assert triggered
CUDA kernel errors might be asynchronously reported at some other API call
For debugging consider passing CUDA_LAUNCH_BLOCKING=1"""
GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "a.py", line 1, in <module>
  | ExceptionGroup: two (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: one
    +------------------------------------"""
IN_THREAD = f"Exception in thread Thread-3 (prompt_worker):\n{TRACEBACK}"
COLOURED = TRACEBACK.replace("Traceback", "[ERROR] Traceback")


def records(*lines: str) -> list[Record]:
    reader = Records()
    return [r for line in lines for r in reader.feed(line)] + list(reader.flush())


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_lines_are_the_same_however_the_bytes_come(size: int) -> None:
    data = "one\n\ntwö\r\n  three  \nrest".encode()
    reader = Lines()
    found = [line for at in range(0, len(data), size) for line in reader.feed(data[at : at + size])]
    assert [*found, *reader.end()] == ["one", "", "twö", "  three", "rest"]


def test_of_a_progress_bar_the_last_state_is_a_line() -> None:
    assert Lines().feed(b"\r 10%|#\r 20%|##\r\n") == [" 20%|##"]


def test_colours_are_left_out() -> None:
    assert Lines().feed(b"\x1b[1m\x1b[31m[ERROR]\x1b[0m no\n") == ["[ERROR] no"]


def test_a_line_without_end_comes_in_parts_of_bounded_length() -> None:
    reader = Lines()
    parts = [line for _ in range(10) for line in reader.feed(b"x" * (MAX_LINE_BYTES - 1))]
    assert {len(part) for part in parts} == {MAX_LINE_BYTES}
    whole = Lines().feed(b"x" * (MAX_LINE_BYTES * 3 + 1) + b"\n")
    assert [len(part) for part in whole] == [MAX_LINE_BYTES] * 3 + [1]


@pytest.mark.parametrize("text", [TRACEBACK, CHAINED, LONG, GROUP, IN_THREAD, COLOURED])
def test_a_traceback_is_one_record_of_level_error(text: str) -> None:
    # ComfyUI logs it with an empty line at its end.
    found = records("before", *text.split("\n"), "", "after")
    assert found == [
        Record(logging.INFO, "before"),
        Record(logging.ERROR, text),
        Record(logging.INFO, "after"),
    ]


@pytest.mark.parametrize("text", [TRACEBACK, CHAINED, LONG, GROUP, IN_THREAD])
def test_a_traceback_at_the_end_is_whole_too(text: str) -> None:
    assert records(*text.split("\n")) == [Record(logging.ERROR, text)]


def test_two_tracebacks_are_two_records() -> None:
    lines = [*TRACEBACK.split("\n"), ""]
    assert records(*lines, *lines) == [Record(logging.ERROR, TRACEBACK)] * 2


def test_a_traceback_without_end_is_cut_into_records() -> None:
    frames = ["  File 'a.py'"] * (3 * MAX_TRACEBACK_LINES)
    found = records("Traceback (most recent call last):", *frames)
    assert max(len(record.text.splitlines()) for record in found) == MAX_TRACEBACK_LINES


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("got prompt", logging.INFO),
        ("[WARNING] deprecated", logging.WARNING),
        ("[ERROR] no", logging.ERROR),
        ("[DETAIL] much", logging.DEBUG),
        ("!!! Exception during processing !!! no", logging.ERROR),
        ("[NONSENSE] text", logging.INFO),
        ("an [ERROR] inside", logging.INFO),
    ],
)
def test_the_level_is_the_one_that_is_printed(line: str, level: int) -> None:
    assert records(line) == [Record(level, line)]


def test_empty_lines_are_no_records() -> None:
    assert records("", "one", "", "") == [Record(logging.INFO, "one")]


def test_what_is_over_the_budget_is_counted_and_said_once() -> None:
    budget = Budget(burst=100, rate=10, now=0.0)
    assert [budget.take(40, 0.0) for _ in range(4)] == [True, True, False, False]
    assert budget.note() == "2 more lines of ComfyUI's (0.0 MB) are left out of the log"
    assert budget.note() is None


def test_the_budget_comes_back_with_time() -> None:
    budget = Budget(burst=100, rate=10, now=0.0)
    assert budget.take(100, 0.0)
    assert not budget.take(40, 1.0)
    assert budget.take(40, 4.0)
    assert budget.take(100, 1000.0)
    assert not budget.take(1, 1000.0)
