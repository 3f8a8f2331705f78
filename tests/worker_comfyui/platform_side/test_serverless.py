from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import runpod
from aiohttp import web
from aiohttp.test_utils import TestServer
from runpod.serverless.modules import rp_http, rp_job, rp_logger, rp_scale
from runpod.serverless.modules.worker_state import JobsProgress

from worker_comfyui.comfyui.tracking import Update
from worker_comfyui.platform_side import serverless
from worker_comfyui.stop import JobCancelled
from worker_comfyui.worker import Worker

POLL_S = 20.0


@dataclass
class FakeWorker:
    """Stands for the worker: the loop needs three things of it."""

    run_job: Callable[[dict[str, Any], Callable[[], bool], Callable[[Update], None]], Any] = (
        lambda job, _cancelled, _report: {"done": job["id"]}
    )
    is_ready: bool = True
    must_retire: bool = False

    def run(
        self, job: dict[str, Any], cancelled: Callable[[], bool], report: Callable[[Update], None]
    ) -> Any:
        """Run a job as the test says."""
        return self.run_job(job, cancelled, report)


@dataclass
class ControlPlane:
    """The platform's side, with everything that it was asked."""

    waiting: deque[str] = field(default_factory=deque)
    stops: deque[list[str]] = field(default_factory=deque)
    polls: list[float] = field(default_factory=list)
    dropped_polls: int = 0
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    take_status: int = 200
    answers: deque[int] = field(default_factory=deque)  # to posts: a status, or 0 for no answer
    slow_progress_s: float = 0.0

    def results(self) -> list[dict[str, Any]]:
        """What was posted, without progress."""
        return [body for _, body in self.posts if body.get("status") != "IN_PROGRESS"]

    async def job_take(self, request: web.Request) -> web.Response:
        """Hand out waiting jobs, as soon as there are any."""
        self.polls.append(time.monotonic())
        if self.take_status != 200:
            return web.Response(status=self.take_status)
        try:
            await until(lambda: bool(self.waiting), POLL_S)
        except asyncio.CancelledError:
            self.dropped_polls += 1
            raise
        ids = [self.waiting.popleft() for _ in range(self._count(request))]
        jobs = [{"id": job_id, "input": {}} for job_id in ids]
        return web.json_response(jobs if "batch" in request.path else jobs[0])

    def _count(self, request: web.Request) -> int:
        return min(int(request.query.get("batch_size", "1")), len(self.waiting))

    async def job_stop(self, _request: web.Request) -> web.Response:
        """Tell which jobs to stop, as soon as there are any."""
        await until(lambda: bool(self.stops), POLL_S)
        return web.json_response({"jobsToStop": self.stops.popleft()})

    async def job_done(self, request: web.Request) -> web.Response:
        """Take a result or progress, or fail as planned."""
        body = await request.json()
        if body.get("status") == "IN_PROGRESS":
            await asyncio.sleep(self.slow_progress_s)
        elif self.answers:
            status = self.answers.popleft()
            if status == 0:
                assert request.transport is not None
                request.transport.abort()
            return web.Response(status=status or 500)
        self.posts.append((request.match_info["job"], body))
        return web.Response()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _clean_sdk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rp_http, "FibonacciRetry", serverless._result_retries)
    monkeypatch.setattr(rp_logger.RunPodLogger, "log", serverless._log)
    JobsProgress().clear()
    yield
    JobsProgress().clear()


@dataclass
class Running:
    """A loop and its platform."""

    platform: ControlPlane
    loop: serverless.Loop
    task: asyncio.Task[None]


@asynccontextmanager
async def running_loop(
    worker: FakeWorker,
    monkeypatch: pytest.MonkeyPatch,
    *,
    platform: ControlPlane | None = None,
    concurrency: int = 1,
    refresh_worker: bool = False,
) -> AsyncIterator[Running]:
    """Run the real loop of the SDK, as the worker changes it, against a control plane."""
    platform = platform or ControlPlane()
    app = web.Application()
    app.router.add_get("/job-take/{worker}", platform.job_take)
    app.router.add_get("/job-take-batch/{worker}", platform.job_take)
    app.router.add_get("/job-stop/{worker}", platform.job_stop)
    app.router.add_post("/job-done/{job}", platform.job_done)
    server = TestServer(app)
    await server.start_server(shutdown_timeout=0.1)
    base = f"http://127.0.0.1:{server.port}"
    monkeypatch.setattr(rp_job, "JOB_GET_URL", f"{base}/job-take/pod?gpu=T")
    monkeypatch.setattr(rp_http, "JOB_DONE_URL_TEMPLATE", "platform")
    monkeypatch.setattr(rp_http, "JOB_DONE_URL", f"{base}/job-done/$ID?gpu=T")
    # The worker's own type is more than the loop needs.
    as_worker: Any = worker
    handler = serverless.make_handler(as_worker, concurrency=concurrency)
    config = {
        "handler": handler,
        "concurrency_modifier": lambda _: concurrency,
        "refresh_worker": refresh_worker,
    }
    loop = serverless.Loop(as_worker, config)
    task = asyncio.create_task(loop.run())
    try:
        yield Running(platform, loop, task)
    finally:
        loop.kill_worker()
        await asyncio.wait({task}, timeout=5)
        await server.close()


def until_cancelled(job: dict[str, Any], cancelled: Callable[[], bool], _report: object) -> Any:
    deadline = time.monotonic() + 10
    while not cancelled():
        assert time.monotonic() < deadline, f"{job['id']} was not cancelled"
        time.sleep(0.005)
    raise JobCancelled


# --- the SDK's internals

RELIED_ON = {
    "JobScaler": (rp_scale.JobScaler, "b9b75d92"),
    "get_job": (rp_job.get_job, "8ce23820"),
    "handle_job": (rp_job.handle_job, "849f9363"),
    "run_job": (rp_job.run_job, "3d5c3ab8"),
    "get_stop_signals": (rp_job.get_stop_signals, "031a55cb"),
    "_transmit": (rp_http._transmit, "fc9d6045"),
    "_handle_result": (rp_http._handle_result, "ce88ccb8"),
    "send_result": (rp_http.send_result, "686712f8"),
    "JobsProgress": (JobsProgress, "36fc501c"),
    "run_worker": (runpod.serverless.worker.run_worker, "ce0b9b3f"),
    "start": (runpod.serverless.start, "aa3f846d"),
}


@pytest.mark.parametrize("name", RELIED_ON)
def test_the_sdk_is_the_one_whose_internals_the_worker_knows(name: str) -> None:
    part, known = RELIED_ON[name]
    found = hashlib.sha256(inspect.getsource(part).encode()).hexdigest()[:8]
    assert found == known, (
        f"{name} of runpod {runpod.__version__} is not what serverless.py was written for: "
        "read what changed, adapt serverless.py, then note the new hash here"
    )


# --- taking jobs


def test_jobs_are_taken_run_and_posted_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running_loop(FakeWorker(), monkeypatch) as running:
            running.platform.waiting.extend(["a", "b", "c"])
            await until(lambda: len(running.platform.posts) == 3)
            assert running.platform.posts == [
                (name, {"output": {"done": name}}) for name in ("a", "b", "c")
            ]

    asyncio.run(scenario())


def test_the_next_job_is_asked_for_as_soon_as_the_last_is_posted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with running_loop(FakeWorker(), monkeypatch) as running:
            began = time.monotonic()
            running.platform.waiting.extend(str(n) for n in range(8))
            await until(lambda: len(running.platform.posts) == 8)
            # The SDK alone: a second for each.
            assert time.monotonic() - began < 4

    asyncio.run(scenario())


def test_no_job_is_asked_for_while_comfyui_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        worker = FakeWorker(is_ready=False)
        async with running_loop(worker, monkeypatch) as running:
            await asyncio.sleep(0.3)
            assert running.platform.polls == []
            worker.is_ready = True
            await until(lambda: len(running.platform.polls) == 1)

    asyncio.run(scenario())


def test_a_pending_poll_is_dropped_when_comfyui_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        worker = FakeWorker()
        async with running_loop(worker, monkeypatch) as running:
            await until(lambda: len(running.platform.polls) == 1)
            worker.is_ready = False
            await until(lambda: running.platform.dropped_polls == 1)
            running.platform.waiting.append("a")
            await asyncio.sleep(0.3)
            assert running.platform.posts == []
            worker.is_ready = True
            await until(lambda: len(running.platform.posts) == 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("status", [204, 400, 401, 404, 500])
def test_a_poll_that_brought_nothing_is_not_repeated_at_once(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        platform = ControlPlane(take_status=status)
        async with running_loop(FakeWorker(), monkeypatch, platform=platform) as running:
            await asyncio.sleep(1.5)
            assert 1 <= len(platform.polls) <= 3
            platform.take_status = 200
            platform.waiting.append("a")
            await until(lambda: len(running.platform.posts) == 1)

    asyncio.run(scenario())


def test_with_room_for_two_two_jobs_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=5)

    def meet(job: dict[str, Any], *_: object) -> dict[str, Any]:
        both.wait()
        return {"done": job["id"]}

    async def scenario() -> None:
        async with running_loop(FakeWorker(meet), monkeypatch, concurrency=2) as running:
            running.platform.waiting.extend(["a", "b"])
            await until(lambda: len(running.platform.posts) == 2)

    asyncio.run(scenario())


# --- ending


def test_an_idle_loop_ends_at_once_and_drops_its_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running_loop(FakeWorker(), monkeypatch) as running:
            await until(lambda: len(running.platform.polls) == 1)
            running.loop.kill_worker()
            await asyncio.wait_for(running.task, 1)
            await until(lambda: running.platform.dropped_polls == 1)
            running.platform.waiting.append("late")
            await asyncio.sleep(0.2)
            assert list(running.platform.waiting) == ["late"]

    asyncio.run(scenario())


def test_a_job_in_hand_is_finished_and_posted_and_no_other_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on = threading.Event()

    def work(job: dict[str, Any], *_: object) -> dict[str, Any]:
        assert go_on.wait(5)
        return {"done": job["id"]}

    async def scenario() -> None:
        async with running_loop(FakeWorker(work), monkeypatch) as running:
            running.platform.waiting.extend(["a", "b"])
            await until(lambda: list(running.platform.waiting) == ["b"])
            running.loop.kill_worker()
            await asyncio.sleep(0.3)
            assert not running.task.done()
            go_on.set()
            await asyncio.wait_for(running.task, 2)
            assert running.platform.posts == [("a", {"output": {"done": "a"}})]
            assert list(running.platform.waiting) == ["b"]

    asyncio.run(scenario())


def test_a_loop_that_ends_still_stops_cancelled_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        worker = FakeWorker(until_cancelled)
        async with running_loop(worker, monkeypatch, concurrency=2) as running:
            running.platform.waiting.extend(["a", "b"])
            await until(lambda: running.loop.jobs_tasks.keys() == {"a", "b"})
            running.loop.kill_worker()
            await asyncio.sleep(0.2)
            running.platform.stops.append(["a"])
            await until(lambda: running.loop.jobs_tasks.keys() == {"b"})
            running.platform.stops.append(["b"])
            await asyncio.wait_for(running.task, 3)
            assert running.platform.posts == []

    asyncio.run(scenario())


def test_the_loop_ends_when_comfyui_is_down_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        worker = FakeWorker()
        async with running_loop(worker, monkeypatch) as running:
            await until(lambda: len(running.platform.polls) == 1)
            worker.is_ready, worker.must_retire = False, True
            await asyncio.wait_for(running.task, 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("cancel", [False, True])
def test_a_worker_that_is_refreshed_ends_after_each_job(
    cancel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        worker = FakeWorker(until_cancelled) if cancel else FakeWorker()
        async with running_loop(worker, monkeypatch, refresh_worker=True) as running:
            running.platform.waiting.extend(["a", "b"])
            if cancel:
                await until(lambda: "a" in running.loop.jobs_tasks)
                running.platform.stops.append(["a"])
            await asyncio.wait_for(running.task, 3)
            posted = [] if cancel else [("a", {"output": {"done": "a"}, "stopPod": True})]
            assert running.platform.posts == posted
            assert list(running.platform.waiting) == ["b"]

    asyncio.run(scenario())


# --- cancelling


def test_a_cancelled_job_posts_nothing_and_the_next_one_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(job: dict[str, Any], cancelled: Callable[[], bool], report: Any) -> Any:
        return until_cancelled(job, cancelled, report) if job["id"] == "a" else {"done": job["id"]}

    async def scenario() -> None:
        async with running_loop(FakeWorker(work), monkeypatch) as running:
            running.platform.waiting.extend(["a", "b"])
            await until(lambda: "a" in running.loop.jobs_tasks)
            running.platform.stops.append(["a"])
            await until(lambda: len(running.platform.posts) == 1)
            assert running.platform.posts == [("b", {"output": {"done": "b"}})]

    asyncio.run(scenario())


def test_a_stop_that_comes_before_the_job_has_begun_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with running_loop(FakeWorker(until_cancelled), monkeypatch) as running:
            await until(lambda: len(running.platform.polls) == 1)
            running.platform.stops.append(["a"])
            running.loop.job_progress.add({"id": "a", "input": {}})
            await asyncio.sleep(0.05)  # taken, as it were, but not in its task yet
            await running.loop.jobs_queue.put({"id": "a", "input": {}})
            await until(lambda: running.loop.current_occupancy() == 0)
            assert running.platform.posts == []

    asyncio.run(scenario())


def test_a_job_that_is_stopped_before_its_first_step_frees_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with running_loop(FakeWorker(until_cancelled), monkeypatch) as running:
            loop = running.loop
            job = {"id": "a", "input": {}}
            loop.job_progress.add(job)
            await loop.jobs_queue.put(job)
            await loop.jobs_queue.get()
            loop.jobs_tasks["a"] = task = asyncio.create_task(loop.handle_job(None, job))  # type: ignore[arg-type]  # never gets to use it
            assert await loop.stop_job("a")
            with pytest.raises(asyncio.CancelledError):
                await task
            assert loop.current_occupancy() == 0

    asyncio.run(scenario())


def test_a_job_keeps_its_place_until_its_thread_has_cleaned_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cleaned = threading.Event()

    def work(job: dict[str, Any], cancelled: Callable[[], bool], report: object) -> Any:
        try:
            return until_cancelled(job, cancelled, report)
        finally:
            time.sleep(0.3)
            cleaned.set()

    async def scenario() -> None:
        async with running_loop(FakeWorker(work), monkeypatch) as running:
            running.platform.waiting.append("a")
            await until(lambda: "a" in running.loop.jobs_tasks)
            running.platform.stops.extend([["a"], ["a"]])  # twice: the second changes nothing
            await until(lambda: running.loop.current_occupancy() == 0)
            assert cleaned.is_set()

    asyncio.run(scenario())


# --- posting


@pytest.mark.parametrize("answers", [[500, 503], [0, 0], [502, 0], [429, 408]])
def test_a_result_is_posted_again_after_errors_and_lost_connections(
    answers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        platform = ControlPlane(answers=deque(answers))
        async with running_loop(FakeWorker(), monkeypatch, platform=platform):
            platform.waiting.append("a")
            await until(lambda: platform.posts == [("a", {"output": {"done": "a"}})], 8)

    asyncio.run(scenario())


def test_a_result_that_the_platform_refuses_is_not_posted_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        platform = ControlPlane(answers=deque([400]))
        async with running_loop(FakeWorker(), monkeypatch, platform=platform):
            platform.waiting.extend(["a", "b"])
            await until(lambda: len(platform.posts) == 1)
            assert platform.posts == [("b", {"output": {"done": "b"}})]

    asyncio.run(scenario())


def test_a_result_is_tried_for_minutes() -> None:
    retries = serverless._result_retries(attempts=3)
    pauses = [retries.get_timeout(attempt) for attempt in range(1, retries.attempts)]
    assert 60 < sum(pauses) < 300


def test_progress_arrives_before_the_result_even_when_the_platform_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(job: dict[str, Any], _cancelled: object, report: Callable[[Update], None]) -> Any:
        for percent in (10, 20, 30):
            report(update(percent))
            time.sleep(0.1)
        return {"done": job["id"]}

    async def scenario() -> None:
        platform = ControlPlane(slow_progress_s=2.5)
        async with running_loop(FakeWorker(work), monkeypatch, platform=platform):
            platform.waiting.append("a")
            await until(lambda: bool(platform.results()), 10)
            await asyncio.sleep(0.2)
            assert [body.get("status") for _, body in platform.posts] == ["IN_PROGRESS", None]

    asyncio.run(scenario())


def test_no_progress_is_sent_once_a_job_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    reported_late = threading.Event()

    def work(job: dict[str, Any], cancelled: Callable[[], bool], report: Any) -> Any:
        try:
            return until_cancelled(job, cancelled, report)
        finally:
            report(update(50))
            time.sleep(0.3)
            reported_late.set()

    async def scenario() -> None:
        async with running_loop(FakeWorker(work), monkeypatch) as running:
            running.platform.waiting.append("a")
            await until(lambda: "a" in running.loop.jobs_tasks)
            await asyncio.sleep(0.1)
            running.platform.stops.append(["a"])
            await until(lambda: running.loop.current_occupancy() == 0)
            assert reported_late.is_set()
            assert running.platform.posts == []

    asyncio.run(scenario())


def update(percent: int) -> Update:
    return {
        "percent": percent,
        "node_id": "1",
        "node": "KSampler",
        "node_percent": 0,
        "message": f"{percent} %",
    }


# --- the SDK's log


def test_the_sdks_lines_join_the_workers_log(caplog: pytest.LogCaptureFixture) -> None:
    sdk = rp_logger.RunPodLogger()
    with caplog.at_level(logging.DEBUG, "runpod"):
        sdk.warn("watch out", "job-1")
        sdk.error("failed")
    assert [(r.levelname, r.getMessage(), vars(r).get("job_id")) for r in caplog.records] == [
        ("WARNING", "watch out", "job-1"),
        ("ERROR", "failed", None),
    ]


def test_the_sdks_debug_lines_which_have_whole_jobs_are_never_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    sdk = rp_logger.RunPodLogger()
    with caplog.at_level(logging.DEBUG):
        sdk.debug("Handler output: {'comfy_org_api_key': 'secret'}", "job-1")
    assert "secret" not in caplog.text
    assert capfd.readouterr() == ("", "")


def test_the_worker_has_what_the_loop_needs_of_it() -> None:
    assert {"run", "is_ready", "must_retire"} <= set(dir(Worker))
