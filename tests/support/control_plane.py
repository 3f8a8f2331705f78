"""The platform's side of the workers' protocol for tests of the loop, in the test's event loop.

```
async with running_loop(FakeWorker(), monkeypatch) as running:
    running.platform.waiting.append("a")
    await until(lambda: running.platform.posts == [("a", {"output": {"done": "a"}})])
```
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from runpod.serverless.modules import rp_http, rp_job
from runpod.serverless.modules.worker_state import JobsProgress

from worker_comfyui.comfyui.tracking import Update
from worker_comfyui.platform_side.loop import Loop
from worker_comfyui.platform_side.running import Runner, Worker
from worker_comfyui.stop import JobCancelled

POLL_S = 20.0

RunJob = Callable[[Mapping[str, Any], Callable[[], bool], Callable[[Update], None]], Any]


@dataclass
class FakeWorker:
    """Stands for the worker: the loop needs three things of it."""

    run_job: RunJob = lambda job, _cancelled, _report: {"done": job["id"]}
    is_ready: bool = True
    must_retire: bool = False

    def run(
        self,
        raw: Mapping[str, Any],
        cancelled: Callable[[], bool],
        report: Callable[[Update], None],
    ) -> Any:
        """Run a job as the test says."""
        return self.run_job(raw, cancelled, report)


@dataclass
class ControlPlane:
    """The platform's side, with everything that it was asked."""

    waiting: deque[str] = field(default_factory=deque)
    given: deque[web.Response] = field(default_factory=deque)  # answers to job-take, as they are
    stops: deque[list[str]] = field(default_factory=deque)
    polls: list[float] = field(default_factory=list)
    dropped_polls: int = 0
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refused: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    take_status: int = 200
    answers: deque[int] = field(default_factory=deque)  # to posts: a status, or 0 for no answer
    slow_progress_s: float = 0.0
    takes_results: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.takes_results.set()

    def results(self) -> list[dict[str, Any]]:
        """What was posted, without progress."""
        return [body for _, body in self.posts if body.get("status") != "IN_PROGRESS"]

    def application(self) -> web.Application:
        """The operations as a web application."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/job-take/{worker}", self.job_take)
        app.router.add_get("/job-take-batch/{worker}", self.job_take)
        app.router.add_get("/job-stop/{worker}", self.job_stop)
        app.router.add_post("/job-done/{job}", self.job_done)
        return app

    async def job_take(self, request: web.Request) -> web.Response:
        """Hand out waiting jobs, as soon as there are any."""
        self.polls.append(time.monotonic())
        if self.take_status != 200:
            return web.Response(status=self.take_status)
        try:
            await until(lambda: bool(self.waiting or self.given), POLL_S)
        except asyncio.CancelledError:
            self.dropped_polls += 1
            raise
        if self.given:
            return self.given.popleft()
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
        elif self.answers and (status := self.answers.popleft()) != 200:
            if status == 0:
                assert request.transport is not None
                request.transport.abort()
            self.refused.append((request.match_info["job"], body))
            return web.Response(status=status or 500, text="because")
        await self.takes_results.wait()
        self.posts.append((request.match_info["job"], body))
        return web.Response()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.005)


@dataclass
class Running:
    """A loop and its platform."""

    platform: ControlPlane
    loop: Loop
    task: asyncio.Task[None]


@asynccontextmanager
async def running_loop(
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    *,
    platform: ControlPlane | None = None,
    concurrency: int = 1,
    refresh_worker: bool = False,
) -> AsyncIterator[Running]:
    """Run the worker's loop, on the real SDK, against a control plane."""
    platform = platform or ControlPlane()
    server = TestServer(platform.application())
    await server.start_server(shutdown_timeout=0.1)
    try:
        async with loop_at(
            f"http://127.0.0.1:{server.port}",
            worker,
            monkeypatch,
            concurrency=concurrency,
            refresh_worker=refresh_worker,
        ) as (loop, task):
            yield Running(platform, loop, task)
    finally:
        await server.close()


@asynccontextmanager
async def loop_at(
    url: str,
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    *,
    concurrency: int = 1,
    refresh_worker: bool = False,
) -> AsyncIterator[tuple[Loop, asyncio.Task[None]]]:
    """Run the worker's loop against the platform at this address until the block ends."""
    monkeypatch.setattr(rp_job, "JOB_GET_URL", f"{url}/job-take/pod?gpu=T")
    monkeypatch.setattr(rp_http, "JOB_DONE_URL_TEMPLATE", "platform")
    monkeypatch.setattr(rp_http, "JOB_DONE_URL", f"{url}/job-done/$ID?gpu=T")
    JobsProgress().clear()
    runner = Runner(worker, concurrency)
    loop = Loop(worker, runner, {}, concurrency=concurrency, refresh_worker=refresh_worker)
    task = asyncio.create_task(loop.run())
    try:
        yield loop, task
    finally:
        loop.end()
        await asyncio.wait({task}, timeout=5)
        JobsProgress().clear()


def until_cancelled(job: Mapping[str, Any], cancelled: Callable[[], bool], _report: object) -> Any:
    """Run a job that ends only when it is cancelled."""
    deadline = time.monotonic() + 10
    while not cancelled():
        assert time.monotonic() < deadline, f"{job['id']} was not cancelled"
        time.sleep(0.005)
    raise JobCancelled
