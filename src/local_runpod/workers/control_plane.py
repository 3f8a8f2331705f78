"""What workers see: the protocol of the RunPod SDK's production loop (runpod-python 1.12.0).

`job-take` and `job-stop` are long polls; `job-done` carries progress as well as results.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import web

from local_runpod import json_text
from local_runpod.jobs.job import Job, error_text
from local_runpod.jobs.job_queue import JobQueue
from local_runpod.limits import Limits
from local_runpod.web.access import check_page
from local_runpod.web.body import read_body
from local_runpod.web.problems import ProblemError
from local_runpod.web.routing import Address, Handler, Operation, application
from local_runpod.workers.faults import Faults
from local_runpod.workers.registry import Registry, Worker

log = logging.getLogger(__name__)

NO_CONTENT = 204


class ControlPlane:
    """The worker-side API over a queue.

    Args:
        queue: The jobs.
        registry: The workers.
        limits: Sizes and waits.
        faults: What should go wrong.
        on_stop_pod: Called with the id of a worker that asks to be replaced.
    """

    def __init__(
        self,
        queue: JobQueue,
        registry: Registry,
        limits: Limits,
        faults: Faults,
        on_stop_pod: Callable[[str], None],
    ) -> None:
        self._queue = queue
        self._registry = registry
        self._limits = limits
        self._faults = faults
        self._on_stop_pod = on_stop_pod
        self._polling: dict[str, Worker] = {}

    def application(self, token: str) -> web.Application:
        """The operations as a web application.

        Args:
            token: What the platform's own workers show: they have it in their addresses, in place
                of an endpoint's id. Their `Authorization` is no use: the SDK prefers the key in the
                user's `~/.runpod/config.toml` to the variable (`runpod/http_client.py`).
        """

        async def around(
            request: web.Request, address: Address, handler: Handler
        ) -> web.StreamResponse:
            check_page(request)
            if not hmac.compare_digest((address.endpoint or "").encode(), token.encode()):
                raise ProblemError(401, "unauthorized: this is for the platform's own workers")
            return await self._faults.around(
                address.operation, request, handler, *address.arguments
            )

        return application(
            {
                "ping": Operation("GET", self._ping, arguments=1),
                "job-take": Operation("GET", self._job_take, arguments=1),
                "job-take-batch": Operation("GET", self._job_take_batch, arguments=1),
                "job-stop": Operation("GET", self._job_stop, arguments=1),
                "job-done": Operation("POST", self._job_done, arguments=2),
                "job-stream": Operation("POST", self._job_stream, arguments=2),
            },
            around,
        )

    async def _ping(self, request: web.Request, worker_id: str) -> web.Response:
        self._registry.ping(worker_id)
        job_ids = request.query.get("job_id", "").split(",")
        self._queue.reported(worker_id, job_ids)
        return web.Response()

    # Handing out

    async def _job_take(self, request: web.Request, worker_id: str) -> web.StreamResponse:
        jobs = await self._next_jobs(worker_id, 1)
        return await _hand_out(self._queue, request, jobs, batch=False)

    async def _job_take_batch(self, request: web.Request, worker_id: str) -> web.StreamResponse:
        try:
            count = int(request.query.get("batch_size", "1"))
        except ValueError:
            raise ProblemError(400, "batch_size: must be a number") from None
        jobs = await self._next_jobs(worker_id, max(1, count))
        return await _hand_out(self._queue, request, jobs, batch=True)

    async def _next_jobs(self, worker_id: str, count: int) -> list[Job]:
        """Wait for jobs; among several waiting workers, the least busy goes first."""
        worker = self._registry.add(worker_id)
        self._registry.mark_ready(worker)
        self._polling[worker_id] = worker
        try:
            await self._poll(worker, lambda: self._queue.has_waiting and self._is_next(worker))
            if worker.released or worker.draining:
                return []
            jobs = self._queue.take(worker_id, count)
            for job in jobs:
                worker.stops.pop(job.id, None)  # meant for an earlier attempt
            return jobs
        finally:
            self._polling.pop(worker_id, None)
            if self._queue.has_waiting:
                self._registry.news.ring()

    def _is_next(self, worker: Worker) -> bool:
        """A draining worker never is: its poll is held, since after a 204 it would ask at once."""
        loads = {
            w.id: len(self._queue.held_by(w.id)) for w in self._polling.values() if not w.draining
        }
        return worker.id in loads and loads[worker.id] == min(loads.values())

    async def _poll(self, worker: Worker, condition: Callable[[], bool]) -> None:
        if worker.released:
            await asyncio.sleep(1)  # a worker that goes on asking though it was told to end
        news = self._registry.news
        await news.wait_until(lambda: worker.released or condition(), self._limits.poll)

    async def _job_stop(self, request: web.Request, worker_id: str) -> web.StreamResponse:
        worker = self._registry.add(worker_id)
        await self._poll(worker, lambda: bool(worker.stops))
        if not worker.stops:
            return web.Response(status=NO_CONTENT)
        await asyncio.sleep(self._registry.until_stop_is_due(worker))
        stopped = self._registry.due_stops(worker)
        response = await _send(request, {"jobsToStop": stopped})
        for job_id in stopped:
            worker.stops.pop(job_id, None)
        return response

    # Taking in

    async def _job_done(self, request: web.Request, worker_id: str, job_id: str) -> web.Response:
        try:
            result, size = await self._read_result(request, job_id)
        except ProblemError as problem:
            if job := self._queue.running(worker_id, job_id):
                log.warning(
                    "job %s: its result was refused (%s); as on RunPod, the client sees COMPLETED "
                    "without output",
                    job_id,
                    problem.detail,
                )
                self._queue.finish(job, None, None, 0)
            raise
        job = self._queue.running(worker_id, job_id)
        if result.get("status") == "IN_PROGRESS":
            if job:
                job.progress(result.get("output"))
        elif job:
            error = result.get("error")
            self._queue.finish(
                job, result.get("output"), error_text(error) if error else None, size
            )
        if result.get("stopPod"):  # also where the job itself is over already
            self._on_stop_pod(worker_id)
        return web.Response()

    async def _read_result(self, request: web.Request, job_id: str) -> tuple[dict[str, Any], int]:
        limits = self._limits
        limit = limits.runsync_result if job_id.startswith("sync-") else limits.run_result
        body = await read_body(request, limit, limits.body_timeout)
        try:
            result = json_text.load(body)
        except ValueError as error:
            raise ProblemError(400, f"bad request: body: not JSON: {error}") from None
        if not isinstance(result, dict):
            raise ProblemError(400, "bad request: body: must be a JSON object")
        return result, len(body)

    async def _job_stream(self, request: web.Request, worker_id: str, job_id: str) -> web.Response:
        chunk, _size = await self._read_result(request, job_id)
        job = self._queue.running(worker_id, job_id)
        if job and "output" in chunk:
            job.add_to_stream(chunk["output"])
        return web.Response()


async def _hand_out(
    queue: JobQueue, request: web.Request, jobs: list[Job], *, batch: bool
) -> web.StreamResponse:
    if not jobs:
        return web.Response(status=NO_CONTENT)
    bodies = [{**job.request, "id": job.id} for job in jobs]
    try:
        return await _send(request, bodies if batch else bodies[0])
    except (ConnectionError, asyncio.CancelledError):  # the worker is gone
        queue.give_back(jobs)
        raise
    except Exception as error:
        # Given back, the job would come here again, for ever, before all others.
        for job in jobs:
            queue.finish(job, None, f"the job cannot be handed to a worker: {error}", 0)
        raise


async def _send(request: web.Request, body: Any) -> web.StreamResponse:
    """Answer now, so that a worker which is gone is noticed here."""
    response = web.Response(body=json_text.dump(body), content_type="application/json")
    await response.prepare(request)
    await response.write_eof()
    return response
