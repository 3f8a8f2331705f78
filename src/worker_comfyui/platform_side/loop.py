"""The loop that takes and runs the platform's jobs: only what can be done now, and none is lost.

It stands where the SDK makes its `JobScaler` (https://github.com/runpod/runpod-python, 1.12.0,
`serverless/modules/rp_scale.py`), and shares no code with it. What differs: a job is asked for as
soon as there is room for it (the SDK looks once a second), also while a result is still on its way
to the platform (the SDK waits for that), but only while ComfyUI is ready. On
SIGTERM, polls are dropped at once (the SDK waits for them, up to 90 s, and loses a job that one of
them brings); jobs in hand are finished and posted, and can still be cancelled.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

from aiohttp import ClientSession, ClientTimeout

from worker_comfyui.comfyui.tracking import Update
from worker_comfyui.errors import InvalidRequest
from worker_comfyui.platform_side import results, sdk
from worker_comfyui.platform_side.running import Runner, Worker
from worker_comfyui.platform_side.taking import LOOK_S, Taken, Taker

log = logging.getLogger(__name__)

# These three are the SDK's (rp_scale.py, `monitor_stop_signals`).
STOP_POLL_S = 90.0
STOP_PAUSE_S = 1.0
STOP_TOO_MANY_PAUSE_S = 5.0
PROGRESS_TIMEOUT = ClientTimeout(total=30)


class Loop:
    """Takes and runs jobs until it is told to end, or until ComfyUI is down for good.

    Args:
        worker: Says whether a job can be run.
        runner: Runs the jobs.
        concurrency: Jobs that run at once, and at most as many whose results are being posted.
        refresh_worker: End after the first job.
    """

    def __init__(
        self,
        worker: Worker,
        runner: Runner,
        _config: dict[str, Any],  # the SDK's
        *,
        concurrency: int,
        refresh_worker: bool,
    ) -> None:
        self._worker = worker
        self._runner = runner
        self._concurrency = concurrency
        self._refresh_worker = refresh_worker
        self._ending = False
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._posting: set[str] = set()
        self._may_have_room = asyncio.Event()

    def start(self) -> None:
        """Run in this thread, the main one, until SIGTERM or SIGINT."""
        # Again: the SDK has set a handler for SIGINT, which exits at once (its `start`).
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        asyncio.run(self.run())

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.end()

    def end(self) -> None:
        """Take no more jobs; `run` returns after the last one in hand. For signal handlers too."""
        self._ending = True

    @property
    def jobs_in_hand(self) -> frozenset[str]:
        """The ids of the jobs whose results have not been posted."""
        return frozenset(self._tasks)

    async def run(self) -> None:
        """Take and run jobs until `end`."""
        async with sdk.session() as session, Taker(self._has_use_for_a_job) as taker:
            stops = asyncio.create_task(self._follow_stops(session))
            try:
                await self._take_jobs(taker, session)
            finally:
                self._ending = True
                while self._tasks:
                    await asyncio.wait(self._tasks.values())
                stops.cancel()
                await asyncio.gather(stops, return_exceptions=True)

    def _has_use_for_a_job(self) -> bool:
        return not self._ending and self._worker.is_ready

    async def _take_jobs(self, taker: Taker, session: ClientSession) -> None:
        while not self._ending:
            if self._worker.must_retire:
                log.error("this worker retires", extra={"event": "worker_retired"})
                return
            if self._room <= 0 or not self._worker.is_ready:
                self._may_have_room.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._may_have_room.wait(), LOOK_S)
                continue
            for job in await taker.take(self._room):
                self._begin(job, session)

    @property
    def _room(self) -> int:
        """How many more jobs can be taken: ComfyUI does not wait for the network."""
        # With `refresh_worker`, this worker ends once a result is posted.
        posting = 0 if self._refresh_worker else min(len(self._posting), self._concurrency)
        return self._concurrency + posting - len(self._tasks)

    def _begin(self, job: Taken, session: ClientSession) -> None:
        if job.id in self._tasks:
            log.warning("a job that is in hand was handed out again", extra={"job_id": job.id})
            return
        log.info("job taken", extra={"event": "job_taken", "job_id": job.id})
        sdk.hold(job.id)
        task = asyncio.create_task(self._work(job, session))
        self._tasks[job.id] = task
        # Not in the task: one that is stopped before its first step would keep its place.
        task.add_done_callback(partial(self._ended, job.id))

    def _ended(self, job_id: str, task: asyncio.Task[None]) -> None:
        sdk.release(job_id)
        del self._tasks[job_id]
        self._posting.discard(job_id)
        self._may_have_room.set()
        if self._refresh_worker:  # a cancelled job leaves its traces as well
            self.end()
        if not task.cancelled() and (error := task.exception()):
            log.error("a job failed", exc_info=error, extra={"job_id": job_id})

    async def _work(self, job: Taken, session: ClientSession) -> None:
        """Run and post one job."""
        if job.problem:
            error = InvalidRequest(job.problem)
            extra = {"event": "job_failed", "job_id": job.id, "error_code": error.code}
            log.error(str(error), extra=extra)
            result = error.as_result()
        else:
            result = await self._runner.run(job.raw, partial(_send_progress, session, job.id))
        if result.get("refresh_worker"):  # the platform ends this worker then
            while before := [self._tasks[job_id] for job_id in self._posting]:
                await asyncio.wait(before)
        self._posting.add(job.id)
        self._may_have_room.set()
        await results.post(session, job.id, result, stop_pod=self._refresh_worker)

    async def _follow_stops(self, session: ClientSession) -> None:
        """Stop the jobs that the platform wants stopped."""
        if not sdk.can_stop_jobs():
            log.warning("this platform cannot stop single jobs")
            return
        while True:
            try:
                job_ids = await asyncio.wait_for(sdk.stop_signals(session), STOP_POLL_S)
                for job_id in job_ids:
                    self.stop_job(job_id)
                if not job_ids:
                    await asyncio.sleep(STOP_PAUSE_S)
            except TimeoutError:
                continue
            except sdk.TooManyRequests:
                await asyncio.sleep(STOP_TOO_MANY_PAUSE_S)
            except Exception as error:  # noqa: BLE001  # whatever it is, the next poll may work
                log.warning("cannot ask for stops: %s: %s", type(error).__name__, error)
                await asyncio.sleep(STOP_PAUSE_S)

    def stop_job(self, job_id: str) -> None:
        """Stop a job, if it is in hand. Nothing is posted for it."""
        if task := self._tasks.get(job_id):
            log.info("the platform stops the job", extra={"job_id": job_id})
            task.cancel()


async def _send_progress(session: ClientSession, job_id: str, update: Update) -> None:
    """Send it once, unlike a result: what comes late is of no use."""
    async with session.post(
        sdk.result_url(job_id),
        data=json.dumps({"status": "IN_PROGRESS", "output": update}),
        headers=sdk.result_headers(job_id),
        timeout=PROGRESS_TIMEOUT,
        raise_for_status=True,
    ) as answer:
        await answer.read()
