"""The worker's side of the RunPod SDK: the handler, and the loop that takes and runs jobs.

Importing this imports the SDK, which takes more than a second: ComfyUI starts meanwhile.
The behaviour relied on here is that of runpod 1.12.0 (`serverless/modules/rp_scale.py`,
`rp_job.py`, `rp_http.py`), hence the exact pin;
tests/worker_comfyui/platform_side/test_serverless.py watches it.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

# The SDK cannot be imported with an empty or unknown level. Its lines go to the worker's log.
os.environ["RUNPOD_LOG_LEVEL"] = "INFO"

import runpod
from aiohttp import ClientConnectionError, ClientPayloadError, ClientSession
from aiohttp_retry import ExponentialRetry
from runpod.http_client import AsyncClientSession, TooManyRequests
from runpod.serverless.modules import rp_http, rp_logger, rp_scale

from worker_comfyui.comfyui.tracking import Update
from worker_comfyui.config import Settings
from worker_comfyui.platform_side.progress import ProgressSender
from worker_comfyui.stop import JobCancelled
from worker_comfyui.worker import Worker

log = logging.getLogger(__name__)
sdk_log = logging.getLogger("runpod")

Job = dict[str, Any]
JobHandler = Callable[[Job], Awaitable[dict[str, Any]]]

LOOK_S = 0.1
PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None)
REFUSED_PAUSE_S = 1.0
TOO_MANY_PAUSE_S = 5.0
RESULT_ATTEMPTS = 9  # 1, 2, 4, ... seconds apart: about three minutes
LONGEST_PAUSE_S = 30.0
NOT_NOW = {408, 425, 429}  # request timeout, too early, too many requests


def serve(settings: Settings, worker: Worker) -> None:
    """Run the SDK until the platform or a signal ends it: its loop, local API or test run."""
    rp_logger.RunPodLogger.log = _log
    rp_http.FibonacciRetry = _result_retries
    rp_scale.JobScaler = partial(Loop, worker)
    os.register_at_fork(after_in_child=partial(_die_with, os.getpid()))
    runpod.serverless.start(
        {
            "handler": make_handler(worker, concurrency=settings.worker_concurrency),
            "concurrency_modifier": lambda _: settings.worker_concurrency,
            "refresh_worker": settings.refresh_worker,
        }
    )


def _die_with(worker_pid: int) -> None:
    """End this process with the worker; Linux only.

    It is the SDK's sender of pings: alone, it would go on to report the jobs of a worker that was
    killed, and the platform would wait for them.
    """
    if sys.platform == "linux":
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != worker_pid:
            os._exit(1)


def make_handler(worker: Worker, *, concurrency: int) -> JobHandler:
    """Make the SDK's handler: the job runs in a thread, so that the loop can stop it."""
    threads = ThreadPoolExecutor(concurrency, thread_name_prefix="job")

    async def handler(job: Job) -> dict[str, Any]:
        cancelled = threading.Event()
        loop = asyncio.get_running_loop()
        async with (
            AsyncClientSession() as session,
            ProgressSender(_progress_to(session, job)) as progress,
        ):
            work = loop.run_in_executor(threads, worker.run, job, cancelled.is_set, progress.report)
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                cancelled.set()
                progress.stop()
                await _end_of(work)
                raise

    return handler


async def _end_of(work: asyncio.Future[Any]) -> None:
    """Wait until the thread is done with the job, also when it is cancelled a second time."""
    while not work.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({work})
    if (error := work.exception()) and not isinstance(error, JobCancelled):
        log.error("the cancelled job failed", exc_info=error)


def _progress_to(session: ClientSession, job: Job) -> Callable[[Update], Awaitable[None]]:
    if rp_http.JOB_DONE_URL_TEMPLATE == "JOB_DONE_URL":  # no platform: a local run

        async def show(update: Update) -> None:
            log.info(update["message"])

        return show

    url = rp_http.JOB_DONE_URL.replace("$ID", job["id"]) + "&isStream=false"
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Request-ID": job["id"]}

    async def send(update: Update) -> None:
        """Send it once, unlike a result: what comes late is of no use."""
        body = json.dumps({"status": "IN_PROGRESS", "output": update})
        async with session.post(url, data=body, headers=headers, raise_for_status=True) as answer:
            await answer.read()

    return send


def _result_retries(**_: Any) -> ExponentialRetry:
    """Post a result until it arrives, also after a lost connection; the SDK tries for 5 s only.

    Most codes below 500 are final: the platform has seen the result, and does not want it.
    """
    return ExponentialRetry(
        statuses=NOT_NOW,
        attempts=RESULT_ATTEMPTS,
        start_timeout=0.5,
        max_timeout=LONGEST_PAUSE_S,
        exceptions={ClientConnectionError, ClientPayloadError, TimeoutError},
    )


class Loop(rp_scale.JobScaler):  # type: ignore[misc]  # the SDK has no types
    """The SDK's loop, which takes only jobs that can be done now, and loses none.

    What differs from the SDK: a job is asked for as soon as there is room for it (the SDK looks
    once a second), but only while ComfyUI is ready, and never twice a second in vain; it is run as
    soon as it is here (the SDK looks ten times a second). On SIGTERM, polls are dropped at once
    (the SDK waits for them, up to 90 s, and loses a job that one of them brings); jobs in hand are
    finished and posted, and can still be cancelled.
    """

    def __init__(self, worker: Worker, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._worker = worker
        self._ending = False
        self._job_ended = asyncio.Event()

    async def run(self) -> None:
        """Take and run jobs until `kill_worker`, or until ComfyUI is down for good."""
        await self.set_scale()  # makes the queue anew
        async with AsyncClientSession() as session:
            take = asyncio.create_task(self.get_jobs(session))
            stops = asyncio.create_task(self.monitor_stop_signals(session))
            work = asyncio.create_task(self.run_jobs(session))
            try:
                await asyncio.wait({take, work}, return_when=asyncio.FIRST_COMPLETED)
                while self.current_occupancy() and not work.done():  # noqa: ASYNC110  # the SDK has no event for it
                    await asyncio.sleep(LOOK_S)
                super().kill_worker()
                await work
                await take
            finally:
                for task in (take, stops, work):
                    task.cancel()
                await asyncio.gather(take, stops, work, return_exceptions=True)

    def kill_worker(self) -> None:
        """Take no more jobs; the loop ends with the last one in hand. For signal handlers too."""
        self._ending = True

    async def get_jobs(self, session: ClientSession) -> None:
        """Take jobs until the worker ends."""
        while not self._ending:
            if self._worker.must_retire:
                log.error("this worker retires", extra={"event": "worker_retired"})
                return
            room = self.current_concurrency - self.current_occupancy()
            if room <= 0 or not self._worker.is_ready:
                self._job_ended.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._job_ended.wait(), LOOK_S)
                continue
            for job in await self._take(session, room):
                await self.jobs_queue.put(job)
                self.job_progress.add(job)

    async def _take(self, session: ClientSession, count: int) -> list[Job]:
        """Ask for jobs once; the poll is dropped when a job could not be done any more."""
        asked = time.monotonic()
        give_up_at = asked + self.jobs_fetcher_timeout
        poll = asyncio.ensure_future(self.jobs_fetcher(session, count))
        try:
            while not self._ending and self._worker.is_ready and time.monotonic() < give_up_at:
                await asyncio.wait({poll}, timeout=LOOK_S)
                if poll.done():
                    jobs: list[Job] = await poll or []
                    if not jobs:  # FlashBoot's 400, or a 204 that was not held
                        await self._pause(asked + REFUSED_PAUSE_S - time.monotonic())
                    return jobs
        except TooManyRequests:
            await self._pause(TOO_MANY_PAUSE_S)
        except Exception as error:  # noqa: BLE001  # whatever it is, the next poll may work
            log.warning("the platform gave no job: %s: %s", type(error).__name__, error)
            await self._pause(REFUSED_PAUSE_S)
        finally:
            poll.cancel()
        return []

    async def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._ending and time.monotonic() < end:  # noqa: ASYNC110  # a signal sets it
            await asyncio.sleep(LOOK_S)

    async def run_jobs(self, session: ClientSession) -> None:
        """Run what is taken, until `run` ends the loop."""
        end = asyncio.create_task(self._shutdown_event.wait())
        running: set[asyncio.Task[None]] = set()
        while True:
            next_job = asyncio.create_task(self.jobs_queue.get())
            await asyncio.wait({next_job, end}, return_when=asyncio.FIRST_COMPLETED)
            if not next_job.done():
                next_job.cancel()
                break
            job = next_job.result()
            task = asyncio.create_task(self.handle_job(session, job))
            self.jobs_tasks[job["id"]] = task
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running, return_exceptions=True)

    async def handle_job(self, session: ClientSession, job: Job) -> None:
        """Run and post one job."""
        try:
            await super().handle_job(session, job)
        finally:
            self._job_ended.set()
            if self.config.get("refresh_worker"):  # a cancelled job leaves its traces as well
                self.kill_worker()

    async def stop_job(self, job_id: str) -> bool:
        """Stop a job; False if it is not in hand.

        The SDK forgets the stop of a job that waits for its task, and never frees the place of one
        whose task has not had its first step.
        """
        while job_id not in self.jobs_tasks and self.job_progress.get(job_id):  # noqa: ASYNC110  # idem
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(0)
        return bool(await super().stop_job(job_id))


_LEVELS = {"INFO": logging.INFO, "TIP": logging.INFO, "WARN": logging.WARNING}


def _log(
    _logger: rp_logger.RunPodLogger,
    message: object,
    message_level: str = "INFO",
    job_id: str | None = None,
) -> None:
    """Stand in for `RunPodLogger.log`: the SDK's lines join the worker's log, masked."""
    if message_level in {"DEBUG", "TRACE"}:
        return  # whole jobs and results, keys included
    extra = {"job_id": job_id} if job_id else {}
    sdk_log.log(_LEVELS.get(message_level, logging.ERROR), "%s", message, extra=extra)
