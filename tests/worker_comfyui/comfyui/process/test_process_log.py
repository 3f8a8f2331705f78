"""What a real process prints, on its way into the log."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.waiting import wait_until
from worker_comfyui import logs
from worker_comfyui.comfyui.process.process_log import BURST_BYTES, BYTES_PER_SECOND, ProcessLog


@contextmanager
def reading(program: str) -> Iterator[tuple[ProcessLog, subprocess.Popen[bytes]]]:
    pipe = subprocess.PIPE
    line = [sys.executable, "-u", "-c", program]
    with subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        log = ProcessLog(process.stdout)
        try:
            yield log, process
        finally:
            process.kill()
            log.join(20)


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(r.levelno, r.getMessage()) for r in caplog.records if r.name == "comfyui"]


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "comfyui")


def test_a_traceback_is_logged_as_one_though_nothing_follows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    program = "import threading\nthreading.Thread(target=lambda: 1 / 0).start()\ninput()"
    with reading(program) as (log, _):
        wait_until(log.tail)
        log.drain(20)
        ((level, text),) = logged(caplog)
    assert level == logging.ERROR
    assert text.startswith("Exception in thread Thread-1")
    assert text.endswith("ZeroDivisionError: division by zero")


def test_errors_are_told_of() -> None:
    told: list[str] = []
    line = [sys.executable, "-c", "print('fine', flush=True); 1 / 0"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        ProcessLog(process.stdout, told.append).join(20)
    (text,) = told
    assert text.startswith("Traceback")


def test_after_a_drain_all_that_was_printed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    program = "for _ in iter(input, 'end'): print('\\n'.join(f'line {i}' for i in range(3000)))"
    with reading(program) as (log, process):
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
        wait_until(lambda: log.tail()[-1:] == ["line 2999"])
        log.drain(20)
        assert logged(caplog)[-1] == (logging.INFO, "line 2999")
        started = time.monotonic()
        log.drain(20)  # nothing more
        assert time.monotonic() - started < 8


def test_a_drain_waits_for_a_line_that_has_been_read_but_is_not_logged() -> None:
    begun, may_go_on, told = threading.Event(), threading.Event(), []

    def slow(text: str) -> None:
        begun.set()
        may_go_on.wait(20)
        told.append(text)

    ends = os.pipe()
    with os.fdopen(ends[1], "wb", buffering=0) as end:
        log = ProcessLog(os.fdopen(ends[0], "rb"), slow)
        unread = log._unread

        def look() -> int:
            """Let the reader wake and read just before."""
            if not begun.is_set():
                end.write(b"[ERROR] first\n")
                begun.wait(20)
            return unread()

        log._unread = look  # type: ignore[method-assign]
        threading.Timer(0.2, may_go_on.set).start()
        log.drain(20)
        assert told == ["[ERROR] first"]
    log.join(20)


def test_a_drain_of_what_has_ended_returns() -> None:
    with reading("print('bye')") as (log, process):
        process.wait(20)
        log.join(20)
        log.drain(20)
        assert log.tail() == ["bye"]


def test_a_flood_of_lines_is_cut_with_a_note_and_its_end_is_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines = 5 * BURST_BYTES // 100
    program = f"for i in range({lines}): print(f'{{i:0>99}}')"
    with reading(program) as (log, process):
        process.wait(60)
        log.join(60)
    found = logged(caplog)
    texts = [text for level, text in found if level == logging.INFO]
    assert texts[:3] == [f"{i:0>99}" for i in range(3)]
    seconds = 60  # at most, as above
    assert sum(map(len, texts)) <= BURST_BYTES + BYTES_PER_SECOND * seconds
    assert len(texts) < lines
    assert any("are left out of the log" in text for level, text in found if level > logging.INFO)
    assert log.tail()[-1] == f"{lines - 1:0>99}"


def test_errors_have_room_in_the_log_during_a_flood(caplog: pytest.LogCaptureFixture) -> None:
    program = f"for i in range({3 * BURST_BYTES // 100}): print('x' * 99)\n1 / 0"
    with reading(program) as (log, process):
        process.wait(60)
        log.join(60)
    assert any("ZeroDivisionError" in text for level, text in logged(caplog) if level > 30)


def test_lines_have_the_fields_of_the_block_that_they_are_lent_from(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LATE_S", 0)
    monkeypatch.setattr(logs, "_lent", {})  # of the tests before
    seen: list[tuple[str, object]] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logs._add_context(record)
            seen.append((record.getMessage(), vars(record)["context"]))

    handler = Keeping()
    logging.getLogger("comfyui").addHandler(handler)
    try:
        with reading("for line in iter(input, 'end'): print(line)") as (log, process):

            def say(text: str) -> None:
                assert process.stdin is not None
                process.stdin.write(f"{text}\n".encode())
                process.stdin.flush()
                while log.tail()[-1:] != [text]:
                    time.sleep(0.001)
                log.drain(20)

            say("before")
            with logs.fields(job_id="job-1"), logs.lent_fields("comfyui"):
                say("during")
                worker = threading.Thread(target=logging.getLogger("other").warning, args=("own",))
                worker.start()
                worker.join()
            say("after")
    finally:
        logging.getLogger("comfyui").removeHandler(handler)
    assert seen == [("before", {}), ("during", {"job_id": "job-1"}), ("after", {})]
    assert json.dumps([record.getMessage() for record in caplog.records])
