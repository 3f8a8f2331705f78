"""What the worker stands on of the installed SDK: these say whether a new release will do."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from runpod.serverless import worker as sdk_worker
from runpod.serverless.modules import rp_job, rp_logger, rp_ping, rp_scale
from runpod.serverless.modules.worker_state import JobsProgress, PingJobMirror

from worker_comfyui.platform_side import sdk
from worker_comfyui.platform_side.taking import JobTakeAnswer, Taken

SOURCE = Path(__file__).resolve().parents[3] / "src"


@pytest.fixture(autouse=True)
def _clean_sdk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rp_logger.RunPodLogger, "log", sdk.log_line)
    JobsProgress().clear()
    yield
    JobsProgress().clear()


# --- starting


def test_importing_the_sdk_does_not_wait_for_another_python() -> None:
    code = (
        "import sys\n"
        "def tell(event, args):\n"
        "    if event == 'subprocess.Popen' and args[0] == sys.executable: print(args[1])\n"
        "sys.addaudithook(tell)\n"
        "from worker_comfyui.platform_side import sdk\n"
        "print(sdk.runpod.__version__)"
    )
    command = [sys.executable, "-c", code]
    environ = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [sdk.TESTED]


class Started(Exception):
    """The SDK has started what stands for its loop."""


def test_the_sdk_makes_one_loop_of_the_given_class_and_starts_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[dict[str, Any]] = []

    class Probe:
        def __init__(self, config: dict[str, Any]) -> None:
            made.append(config)

        def start(self) -> None:
            raise Started

    async def no_checks() -> None:
        """Of the machine: they open connections to the internet."""

    async def handler(_job: dict[str, Any]) -> dict[str, Any]:
        return {}

    for part, name in (
        (rp_scale, "JobScaler"),
        (rp_ping.Heartbeat, "process_loop"),
        (rp_logger.RunPodLogger, "log"),
    ):
        monkeypatch.setattr(part, name, getattr(part, name))
    monkeypatch.setattr(sdk_worker, "run_fitness_checks", no_checks)
    monkeypatch.setattr("sys.argv", ["handler.py"])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setenv("RUNPOD_WEBHOOK_GET_JOB", "http://127.0.0.1:1/job-take/$ID?gpu=T")
    monkeypatch.delenv("RUNPOD_AI_API_KEY", raising=False)  # no pings
    with pytest.raises(Started):
        sdk.start(handler, Probe, lambda: None)
    (config,) = made
    assert config["handler"] is handler


def test_an_untested_sdk_is_named_loudly(caplog: pytest.LogCaptureFixture) -> None:
    sdk.check_version(sdk.TESTED)
    assert caplog.records == []
    sdk.check_version("99.0.0")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "runpod 99.0.0 is installed" in record.getMessage()
    assert sdk.TESTED in record.getMessage()
    assert vars(record)["event"] == "untested_sdk"


def test_pings_are_sent_by_a_process_that_runs_the_given_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[tuple[Any, tuple[Any, ...]]] = []

    class Process:
        daemon = False

        def __init__(self, target: Any, args: tuple[Any, ...]) -> None:
            started.append((target, args))

        def start(self) -> None:
            """Do nothing: test_process_end.py runs the real one."""

    def loop(*_: object) -> None:
        """Stand for the loop."""

    monkeypatch.setattr(rp_ping, "Process", Process)
    monkeypatch.setattr(rp_ping.Heartbeat, "process_loop", staticmethod(loop))
    monkeypatch.setattr(rp_ping.Heartbeat, "_process_started", False)
    monkeypatch.setenv("RUNPOD_AI_API_KEY", "key")
    monkeypatch.setenv("RUNPOD_POD_ID", "pod")
    monkeypatch.setenv("RUNPOD_WEBHOOK_PING", "http://127.0.0.1:1/ping")
    rp_ping.Heartbeat().start_ping("mirror")
    assert started == [(loop, ("mirror", False))]


def test_stops_come_from_a_channel_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stops(web.json_response({"jobsToStop": ["a", "b"]}), monkeypatch) == ["a", "b"]
    assert stops(web.Response(status=204), monkeypatch) == []
    assert stops(web.json_response([1]), monkeypatch) == []


def stops(response: web.Response, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    async def ask() -> list[str]:
        assert sdk.can_stop_jobs()
        async with sdk.session() as session:
            return await sdk.stop_signals(session)

    found, (asked,) = asyncio.run(served(response, monkeypatch, ask))
    assert asked.path == "/job-stop/pod"
    job_ids: list[str] = found
    return job_ids


# --- taking and stopping


def answered(response: web.Response, monkeypatch: pytest.MonkeyPatch, count: int = 1) -> Any:
    """What `take` gives for an answer, and what the platform was asked."""

    async def ask() -> list[Any]:
        async with sdk.session(response_class=JobTakeAnswer) as session:
            return await sdk.take(session, count)

    return asyncio.run(served(response, monkeypatch, ask))


async def served(
    response: web.Response, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], Awaitable[Any]]
) -> tuple[Any, list[web.Request]]:
    """Ask a platform that answers with this; what came of it, and what it was asked."""
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        return response

    app = web.Application()
    app.router.add_get("/{operation}/{worker}", answer)
    server = TestServer(app)
    await server.start_server()
    url = f"http://127.0.0.1:{server.port}/job-take/pod?gpu=T"
    monkeypatch.setattr(rp_job, "JOB_GET_URL", url)
    try:
        return await ask(), asked
    finally:
        await server.close()


@pytest.mark.parametrize("status", [204, 400])
def test_an_answer_that_there_is_no_job_is_empty(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, _ = answered(web.Response(status=status), monkeypatch)
    assert taken == []


@pytest.mark.parametrize("status", [401, 404, 500, 503])
def test_an_answer_that_is_an_error_is_raised(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match=str(status)):
        answered(web.Response(status=status), monkeypatch)


def test_too_many_requests_has_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(sdk.TooManyRequests):
        answered(web.Response(status=429), monkeypatch)


@pytest.mark.parametrize("label", ["application/json", "text/plain", "application/octet-stream"])
def test_a_job_is_taken_whatever_it_is_labelled(
    label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = {"id": "a", "input": {"x": 1}, "webhook": "http://example.com"}
    response = web.json_response(job, content_type=label)
    taken, asked = answered(response, monkeypatch)
    assert taken == [Taken("a", job)]
    assert asked[0].path == "/job-take/pod"
    assert asked[0].query["job_in_progress"] == "0"


def test_several_jobs_are_asked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sdk.hold("in hand")
    given = [{"id": "a", "input": {}}, {"id": "b"}]
    taken, asked = answered(web.json_response(given), monkeypatch, count=3)
    assert [job.id for job in taken] == ["a", "b"]
    assert asked[0].path == "/job-take-batch/pod"
    assert asked[0].query["batch_size"] == "3"
    assert asked[0].query["job_in_progress"] == "1"


# --- jobs in hand


def test_the_jobs_in_hand_are_those_that_the_pings_report() -> None:
    mirror = PingJobMirror()
    JobsProgress().set_mirror(mirror)
    try:
        sdk.hold("a")
        assert mirror.get() == "a"
        sdk.hold("b")
        sdk.release("a")
        assert mirror.get() == "b"
        sdk.release("b")
        assert mirror.get() is None
    finally:
        JobsProgress().set_mirror(None)


# --- the SDK's log


def test_the_sdks_lines_join_the_workers_log(caplog: pytest.LogCaptureFixture) -> None:
    own = rp_logger.RunPodLogger()
    with caplog.at_level(logging.DEBUG, "runpod"):
        own.warn("watch out", "job-1")
        own.error("failed")
    assert [(r.levelname, r.getMessage(), vars(r).get("job_id")) for r in caplog.records] == [
        ("WARNING", "watch out", "job-1"),
        ("ERROR", "failed", None),
    ]


def test_the_sdks_debug_lines_which_have_whole_jobs_are_never_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    own = rp_logger.RunPodLogger()
    with caplog.at_level(logging.DEBUG):
        own.debug("Handler output: {'comfy_org_api_key': 'secret'}", "job-1")
    assert "secret" not in caplog.text
    assert capfd.readouterr() == ("", "")
