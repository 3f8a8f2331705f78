"""Tells webhooks how jobs ended, beside the jobs: nothing waits for a receiver."""

from __future__ import annotations

import asyncio
import logging
from typing import Self
from urllib.parse import urlsplit

import aiohttp

from local_runpod.jobs.job import Job
from local_runpod.json_text import dump
from local_runpod.limits import Limits

log = logging.getLogger(__name__)

PARALLEL = 20


class Webhooks:
    """Posts each ended job to its webhook: up to three tries, a 2xx is success.

    Source of the gaps: RunPod's golden path 16 (serverless webhooks), tries at +5 s and +20 s.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(PARALLEL)

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=self._limits.webhook_timeout)
        self._session = aiohttp.ClientSession(timeout=timeout)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    def send(self, job: Job) -> None:
        """Post the job as it is now, in the background."""
        if job.webhook:
            body = dump(job.webhook_body())
            task = asyncio.create_task(self._deliver(job.id, job.webhook, body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, job_id: str, url: str, body: bytes) -> None:
        host = urlsplit(url).netloc.rpartition("@")[2]  # the rest may hold secrets
        for gap in (*self._limits.webhook_gaps, None):
            problem = await self._post(url, body)
            if problem is None:
                log.info("job %s: webhook at %s told", job_id, host)
                return
            again = "given up" if gap is None else f"again in {gap:g} s"
            log.warning("job %s: webhook at %s: %s; %s", job_id, host, problem, again)
            await asyncio.sleep(gap or 0)

    async def _post(self, url: str, body: bytes) -> str | None:
        """Try once.

        Returns:
            What went wrong, if anything did.
        """
        headers = {"Content-Type": "application/json", "User-Agent": "local-runpod"}
        try:
            async with (
                self._slots,
                self._session.post(url, data=body, headers=headers) as response,
            ):
                return None if response.ok else f"answered {response.status}"
        except TimeoutError:
            return f"no answer within {self._limits.webhook_timeout:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return type(error).__name__
