from __future__ import annotations

import io
import json
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from worker_comfyui import logs
from worker_comfyui.comfyui.process.supervisor import Supervisor
from worker_comfyui.config import Settings
from worker_comfyui.redaction import MASK, Redactor
from worker_comfyui.worker import Worker

KEY = "comfyui-key-123456"
log = logging.getLogger("worker_comfyui.test")


class Terminal(io.StringIO):
    """A stream that says that it is one."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def fail(message: str) -> None:
    raise RuntimeError(message)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave logging as it was: it belongs to the whole process."""
    names = (None, "worker_comfyui", "comfyui")
    before = [(name, logging.getLogger(name).level) for name in names]
    handlers = list(logging.getLogger().handlers)
    yield
    for name, level in before:
        logging.getLogger(name).setLevel(level)
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def stream() -> io.StringIO:
    """Where JSON lines go."""
    stream = io.StringIO()
    logs.configure(Settings(log_format="json"), Redactor([KEY]), stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return [json.loads(line, parse_constant=refuse) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object(stream: io.StringIO) -> None:
    log.info("job done in %.1f s", 1.5, extra={"event": "job_done", "timings": {"total_ms": 1500}})
    (line,) = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "INFO",
        "source": "worker",
        "message": "job done in 1.5 s",
        "event": "job_done",
        "timings": {"total_ms": 1500},
    }


@pytest.mark.parametrize(
    "message",
    ["two\nlines", "a\rb\x00\x1b[31m", 'quote " and \\', "\u2028\x85", "日本語", "%s %d {}"],
)
def test_any_message_stays_on_one_line(stream: io.StringIO, message: str) -> None:
    log.info(message)
    (line,) = lines(stream)
    assert line["message"] == message


def test_a_message_that_is_no_valid_text_is_written_as_one() -> None:
    # Straight to the formatter: the test runner cannot print such a text either.
    record = logging.makeLogRecord({"name": "worker_comfyui", "msg": "a\ud800b"})
    line = logs.JsonFormatter(Redactor()).format(record)
    assert json.loads(line)["message"] == "a\ufffdb"


def test_extra_fields_of_any_kind_give_valid_json(stream: io.StringIO) -> None:
    extra = {
        "number": float("nan"),
        "path": Path("/x"),
        "tuple": (1, b"\xff"),
        "error": ValueError("why"),
        "keys": {1: float("inf"), None: object},
    }
    log.info("odd", extra=extra)
    (line,) = lines(stream)
    assert line["number"] is None
    assert line["path"] == "/x"
    assert line["error"] == "why"
    assert line["keys"]["1"] is None


def test_comfyui_s_own_lines_are_marked(stream: io.StringIO) -> None:
    logging.getLogger("comfyui").info("got prompt")
    (line,) = lines(stream)
    assert line["source"] == "comfyui"


def test_the_traceback_of_an_exception_is_a_field(stream: io.StringIO) -> None:
    try:
        fail(f"with {KEY}")
    except RuntimeError:
        log.exception("failed")
    (line,) = lines(stream)
    assert line["traceback"].startswith("Traceback")
    assert line["traceback"].endswith(f"RuntimeError: with {MASK}")


def test_the_job_and_the_prompt_are_on_every_line_of_their_block(stream: io.StringIO) -> None:
    with logs.fields(job_id="job-1"):
        log.info("one")
        with logs.fields(prompt_id="prompt-1"):
            log.info("two")
        log.info("three")
    log.info("four")
    ids = [(line.get("job_id"), line.get("prompt_id")) for line in lines(stream)]
    assert ids == [("job-1", None), ("job-1", "prompt-1"), ("job-1", None), (None, None)]


def test_jobs_in_several_threads_keep_their_own_ids(stream: io.StringIO) -> None:
    together = threading.Barrier(4)

    def job(number: int) -> None:
        with logs.fields(job_id=f"job-{number}"), logs.fields(prompt_id=f"prompt-{number}"):
            together.wait(10)
            for _ in range(50):
                log.info("%d", number)

    threads = [threading.Thread(target=job, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = lines(stream)
    assert len(found) == 200
    for line in found:
        number = line["message"]
        assert (line["job_id"], line["prompt_id"]) == (f"job-{number}", f"prompt-{number}")


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_secret_is_in_any_line(log_format: str) -> None:
    stream = io.StringIO()
    redactor = Redactor([KEY, 'pass"word\\'])
    logs.configure(Settings(log_format=log_format, log_level="DEBUG"), redactor, stream)
    with redactor.knowing(["callers-secret"]), logs.fields(job_id=KEY):
        log.debug("a %s, %s", KEY, "callers-secret")
        log.info("json: %s", json.dumps({"key": 'pass"word\\'}))
        log.warning("extra", extra={"header": ("x", KEY), KEY: {KEY: [KEY]}, "path": Path(KEY)})
        logging.getLogger("comfyui").info("ComfyUI prints %s", KEY)
        logging.getLogger("urllib3").warning("https://host/?key=%s", KEY)
        try:
            fail(KEY)
        except RuntimeError:
            log.exception("failed: %r", {"key": KEY})
    text = stream.getvalue()
    assert text.count(MASK) >= 8
    for secret in (KEY, "callers-secret", 'pass"word\\', 'pass\\"word'):
        assert secret not in text


def test_text_is_for_people() -> None:
    stream = io.StringIO()
    logs.configure(Settings(log_format="text"), Redactor(), stream)
    with logs.fields(job_id="job-1"):
        log.info("hello")
    logging.getLogger("comfyui").info("got prompt")
    logging.getLogger("comfyui").error("Traceback\n  File x\nValueError")
    first, second, *traceback = stream.getvalue().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO    hello  \[job-1\]", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO    │ got prompt", second)
    assert [line[17:] for line in traceback] == ["│ Traceback", "│   File x", "│ ValueError"]


def test_the_log_names_every_problem_of_a_failed_job() -> None:
    settings = Settings(log_format="text")
    worker = Worker(settings, Supervisor(settings, {}), Redactor())
    streams = {name: io.StringIO() for name in ("text", "json")}
    for log_format, stream in streams.items():
        logs.configure(Settings(log_format=log_format), Redactor(), stream)
        request = {"workflow": {"1": {}}, "timeout_s": "x"}
        worker.run({"id": "job-1", "input": request}, lambda: False, lambda _: None)
    problems = ["timeout_s: ", "workflow.1.class_type: ", "workflow.1.inputs: "]
    first, *lines = streams["text"].getvalue().splitlines()
    assert "3 more" not in first
    assert "2 more problems" in first
    assert sorted(line.strip(" -").partition(" ")[0] + " " for line in lines) == problems
    (line,) = map(json.loads, streams["json"].getvalue().splitlines())
    assert sorted(detail.partition(" ")[0] + " " for detail in line["details"]) == problems


def test_the_format_follows_the_stream_unless_it_is_chosen() -> None:
    for log_format, stream, is_json in (
        ("auto", io.StringIO(), True),
        ("auto", Terminal(), False),
        ("json", Terminal(), True),
        ("text", io.StringIO(), False),
    ):
        logs.configure(Settings(log_format=log_format), Redactor(), stream)
        log.info("hello")
        assert stream.getvalue().startswith("{") is is_json


def test_configuring_again_prints_no_line_twice() -> None:
    stream = io.StringIO()
    for _ in range(3):
        logs.configure(Settings(log_format="json"), Redactor(), stream)
    log.info("once")
    assert len(lines(stream)) == 1


def test_the_level_is_the_worker_s_and_other_libraries_only_warn() -> None:
    stream = io.StringIO()
    logs.configure(Settings(log_format="json", log_level="WARNING"), Redactor(), stream)
    log.info("no")
    log.warning("yes")
    logging.getLogger("botocore").info("no")
    logging.getLogger("botocore").warning("yes")
    logging.getLogger("comfyui").info("yes")
    assert [line["message"] for line in lines(stream)] == ["yes", "yes", "yes"]


def test_the_log_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="json"), Redactor())
    log.info("hello")
    captured = capsys.readouterr()
    assert "hello" in captured.err
    assert captured.out == ""


def elsewhere(name: str) -> None:
    """Log the name of a logger under it, in another thread."""
    thread = threading.Thread(target=logging.getLogger(name).info, args=(name,))
    thread.start()
    thread.join()


def test_fields_are_lent_to_one_logger_in_other_threads_and_only_for_the_block(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LATE_S", 0)
    with logs.fields(job_id="job-1"), logs.lent_fields("comfyui"):
        elsewhere("comfyui")
        elsewhere("worker_comfyui.test")
    elsewhere("comfyui")
    assert [(line["message"], line.get("job_id")) for line in lines(stream)] == [
        ("comfyui", "job-1"),
        ("worker_comfyui.test", None),
        ("comfyui", None),
    ]


def test_fields_are_lent_for_a_moment_longer_but_not_past_the_next_block_s_begin(
    stream: io.StringIO,
) -> None:
    with ExitStack() as first, ExitStack() as second:
        with logs.fields(job_id="job-1"):
            first.enter_context(logs.lent_fields("comfyui"))
        with logs.fields(job_id="job-2"):
            second.enter_context(logs.lent_fields("comfyui"))
        elsewhere("comfyui")
        second.close()
        elsewhere("comfyui")
        first.close()
        elsewhere("comfyui")
    assert [line.get("job_id") for line in lines(stream)] == ["job-2"] * 3


def test_comfyui_s_lines_come_at_any_level(stream: io.StringIO) -> None:
    logging.getLogger("comfyui").debug("detail")
    (line,) = lines(stream)
    assert (line["level"], line["message"]) == ("DEBUG", "detail")
