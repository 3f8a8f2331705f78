"""The platform as a whole: queue, gateway, control plane, webhooks and workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from local_runpod.bell import Bell
from local_runpod.gateway.gateway import Gateway
from local_runpod.jobs.job import Job
from local_runpod.jobs.job_queue import JobQueue
from local_runpod.jobs.webhooks import Webhooks
from local_runpod.limits import Limits
from local_runpod.workers.control_plane import ControlPlane
from local_runpod.workers.faults import Faults
from local_runpod.workers.pool import WorkerPlan, WorkerPool
from local_runpod.workers.registry import Registry

log = logging.getLogger(__name__)

ENDPOINT_ID = "local"
SWEEP_S = 0.1
LOOPBACK = "127.0.0.1"


class StartError(RuntimeError):
    """The platform, or its first worker, could not start; the message says why."""


@dataclass(frozen=True, kw_only=True)
class PlatformSettings:
    """What to run.

    Args:
        plan: How to start a worker.
        workers: How many.
        host: Address that clients reach the gateway on. Workers use a port of their own on the
            loopback interface.
        port: The gateway's port; 0 takes a free one.
        api_keys: Keys that clients must show; none: no key is asked for.
        limits: Sizes, waits, retention.
    """

    plan: WorkerPlan
    workers: int = 1
    host: str = LOOPBACK
    port: int = 0
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    limits: Limits = field(default_factory=Limits)


class Platform:
    """A running platform; made by `running`."""

    def __init__(self, settings: PlatformSettings) -> None:
        self.settings = settings
        limits = settings.limits
        self.news = Bell()
        self.faults = Faults()
        self.webhooks = Webhooks(limits)
        self.registry = Registry(limits, news=self.news)
        self.queue = JobQueue(
            limits, news=self.news, on_end=self.webhooks.send, on_stop=self._stop_job
        )
        self.token = secrets.token_urlsafe(32)
        self.workers = WorkerPool(
            settings.plan,
            settings.workers,
            control_plane=self._worker_environment,
            queue=self.queue,
            registry=self.registry,
        )
        self.gateway = Gateway(self.queue, limits, self.worker_counters, settings.api_keys)
        self.control_plane = ControlPlane(
            self.queue, self.registry, limits, self.faults, self.workers.replace
        )
        self.port = 0
        self.control_port = 0

    @property
    def url(self) -> str:
        """The gateway's base address, as seen from this machine."""
        host = self.settings.host
        return f"http://{LOOPBACK if host in {'0.0.0.0', '::', ''} else host}:{self.port}"  # noqa: S104  # nosec B104  # compared

    def worker_counters(self) -> dict[str, int]:
        """The `workers` of `/health`."""
        workers = self.registry.ids
        return self.registry.counters({w for w in workers if self.queue.held_by(w)})

    async def until_ready(self, starts: int = 3) -> None:
        """Wait until a worker asks for jobs.

        Raises:
            StartError: Workers ended that many times without becoming ready.
        """

        def settled() -> bool:
            return bool(self.registry.ready_ids) or self.workers.failed_starts >= starts

        while not await self.news.wait_until(settled, SWEEP_S):
            pass
        if not self.registry.ready_ids:
            raise StartError("\n".join(["The worker ended while starting.", *self.workers.tail]))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Platform]:
        """Listen and run the workers until the context ends; then nothing is left.

        Raises:
            StartError: The port is taken.
        """
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.webhooks)
            settings = self.settings
            self.control_port = await stack.enter_async_context(
                _listening(self.control_plane.application(self.token), LOOPBACK, 0)
            )
            self.port = await stack.enter_async_context(
                _listening(self.gateway.application(), settings.host, settings.port)
            )
            sweeper = asyncio.create_task(self._sweep())
            stack.callback(sweeper.cancel)
            await self.workers.start()
            stack.push_async_callback(self.workers.stop)
            yield self

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.queue.sweep()
            for worker_id in self.registry.lost():
                log.warning("%s sends no pings any more", worker_id)
                if not self.workers.kill(worker_id):
                    self.registry.remove(worker_id)
                    self.queue.release(worker_id)

    def _stop_job(self, job: Job) -> None:
        if job.worker_id and job.started_at is not None:
            self.registry.stop_job(job.worker_id, job.id, job.started_at)

    def _worker_environment(self, worker_id: str) -> dict[str, str]:
        """What the SDK's production loop needs; the names and forms are RunPod's."""
        base = f"http://{LOOPBACK}:{self.control_port}/v2/{self.token}"
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=local",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=local",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=local",
            "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID?gpu=local",
            "RUNPOD_PING_INTERVAL": str(round(self.settings.limits.ping_interval * 1000)),
            # Pings are sent only if there is one; and workers mask it in their logs.
            "RUNPOD_AI_API_KEY": self.token,
            "RUNPOD_POD_ID": worker_id,
            "RUNPOD_ENDPOINT_ID": ENDPOINT_ID,
        }


@asynccontextmanager
async def _listening(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve an application; gives the port."""
    # Cancelled with their client: else a worker that is gone would be handed a job by its poll.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise StartError(
                f"Cannot listen on {host}:{port}: {error.strerror or error}. "
                "Is it running already? Another port: --port N"
            ) from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
