"""What clients see: the operations of a hosted queue-based endpoint.

Source: https://docs.runpod.io/serverless/endpoints/operation-reference, and what RunPod's clients
for Python, JavaScript and Go demand of an endpoint. Every success is a 200: whether a job failed
is told by its body alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from aiohttp import web

from local_runpod.gateway import job_request
from local_runpod.gateway.page import Page
from local_runpod.jobs.job import Job
from local_runpod.jobs.job_queue import (
    JobNotFoundError,
    JobQueue,
    NotRetryableError,
    QueueFullError,
)
from local_runpod.json_text import dump
from local_runpod.limits import Limits
from local_runpod.web.access import check_page, has_key
from local_runpod.web.body import read_body
from local_runpod.web.problems import ProblemError
from local_runpod.web.routing import Address, Handler, Operation, application

LISTED_JOBS = 200
PUBLIC = frozenset({"", "page", "openapi.json"})
"""Operations that need no key: they hold nothing of anybody."""

# With a key, every page may ask: its user gave it the key.
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Max-Age": "600",
}
RETRY_AFTER = {"Retry-After": "1"}


class Gateway:
    """The client-side API over a queue.

    Args:
        queue: The jobs.
        limits: Sizes and waits.
        worker_counters: Gives the `workers` of `/health`.
        api_keys: Keys that clients must show; none: no key is asked for.
    """

    def __init__(
        self,
        queue: JobQueue,
        limits: Limits,
        worker_counters: Callable[[], Mapping[str, int]],
        api_keys: Collection[str] = (),
    ) -> None:
        self._queue = queue
        self._limits = limits
        self._worker_counters = worker_counters
        self._api_keys = [key.encode() for key in api_keys]

    def application(self) -> web.Application:
        """The operations as a web application."""
        page = Page()
        app = application(
            {
                "": Operation("GET", page.index),
                "page": Operation("GET", page.asset, arguments=1),
                "openapi.json": Operation("GET", page.description),
                "run": Operation("POST", self._run),
                "runsync": Operation("POST", self._runsync),
                "status": Operation("GET POST", self._status, arguments=1),
                "status-sync": Operation("GET POST", self._status_sync, arguments=1),
                "stream": Operation("GET POST", self._stream, arguments=1),
                "cancel": Operation("POST", self._cancel, arguments=1),
                "retry": Operation("POST", self._retry, arguments=1),
                "purge-queue": Operation("POST", self._purge_queue),
                "health": Operation("GET", self._health),
                "jobs": Operation("GET", self._jobs),
            },
            self._around,
        )
        if self._api_keys:
            app.on_response_prepare.append(_allow_other_pages)
        return app

    async def _around(
        self, request: web.Request, address: Address, handler: Handler
    ) -> web.StreamResponse:
        if address.operation not in PUBLIC:
            self._check_caller(request)
        try:
            return await handler(request, *address.arguments)
        except JobNotFoundError:
            raise ProblemError(404, "job not found") from None
        except NotRetryableError as error:
            raise ProblemError(400, f"bad request: {error}") from None
        except QueueFullError as error:
            raise ProblemError(429, f"too many requests: {error}", RETRY_AFTER) from None

    def _check_caller(self, request: web.Request) -> None:
        """With keys, they alone decide; without, only programs and the page of this server may."""
        if not self._api_keys:
            check_page(request)
        elif not has_key(request, self._api_keys):
            raise ProblemError(
                401, "unauthorized: send one of the endpoint's keys as Authorization: Bearer KEY"
            )

    # Operations

    async def _submit(self, request: web.Request, *, sync: bool) -> Job:
        limits = self._limits
        limit = limits.runsync_body if sync else limits.run_body
        body = await read_body(request, limit, limits.body_timeout)
        return self._queue.submit(job_request.parse(body, limits), sync=sync, size=len(body))

    async def _run(self, request: web.Request) -> web.Response:
        job = await self._submit(request, sync=False)
        return _json({"id": job.id, "status": "IN_QUEUE"})

    async def _runsync(self, request: web.Request) -> web.Response:
        wait = self._wait(request)
        return await self._when_over(await self._submit(request, sync=True), wait)

    async def _status(self, request: web.Request, job_id: str) -> web.Response:
        job = self._queue.get(job_id)
        ttl = job_request.milliseconds(request, "ttl")
        if ttl is not None:
            self._queue.set_ttl(job, ttl)
        return _json(job.view())

    async def _status_sync(self, request: web.Request, job_id: str) -> web.Response:
        return await self._when_over(self._queue.get(job_id), self._wait(request))

    async def _stream(self, request: web.Request, job_id: str) -> web.StreamResponse:
        job = self._queue.get(job_id)
        wait = self._wait(request, self._limits.stream_wait)
        await job.changed.wait_until(lambda: bool(job.stream) or job.status.is_final, wait)
        # Chunks are handed out once: taken only when the answer is really on its way.
        chunks, job.stream = job.stream, []
        response = _json({"status": job.status.value, "stream": [{"output": c} for c in chunks]})
        try:
            await response.prepare(request)
            await response.write_eof()
        except BaseException:
            job.stream = chunks + job.stream
            raise
        return response

    async def _cancel(self, _request: web.Request, job_id: str) -> web.Response:
        return _json(self._queue.cancel(job_id).view())

    async def _retry(self, _request: web.Request, job_id: str) -> web.Response:
        return _json({"id": self._queue.retry(job_id).id, "status": "IN_QUEUE"})

    async def _purge_queue(self, _request: web.Request) -> web.Response:
        return _json({"removed": self._queue.purge(), "status": "completed"})

    async def _health(self, _request: web.Request) -> web.Response:
        return _json({"jobs": self._queue.counters(), "workers": dict(self._worker_counters())})

    async def _jobs(self, _request: web.Request) -> web.Response:
        return _json({"jobs": self._queue.listing(LISTED_JOBS)})

    def _wait(self, request: web.Request, default: float | None = None) -> float:
        wait = job_request.milliseconds(request, "wait")
        if wait is None:
            return self._limits.wait if default is None else default
        low, high = self._limits.wait_range
        return min(max(wait, low), high)

    async def _when_over(self, job: Job, wait: float) -> web.Response:
        await job.changed.wait_until(lambda: job.status.is_final, wait)
        return _json(job.view())


async def _allow_other_pages(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(CORS)


def _json(body: Mapping[str, Any]) -> web.Response:
    return web.Response(body=dump(body), content_type="application/json")
