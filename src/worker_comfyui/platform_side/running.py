"""Runs one job in a thread, so that the loop can stop it, with its progress on the way."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol

from worker_comfyui.comfyui.tracking import Update
from worker_comfyui.errors import InternalError
from worker_comfyui.platform_side.progress import ProgressSender, Send

log = logging.getLogger(__name__)


class Worker(Protocol):
    """What the platform's side needs of the worker."""

    @property
    def is_ready(self) -> bool:
        """Whether a job could start at once."""

    @property
    def must_retire(self) -> bool:
        """Whether no further job can succeed here."""

    def run(
        self,
        raw: Mapping[str, Any],
        cancelled: Callable[[], bool],
        report: Callable[[Update], None],
        /,
    ) -> dict[str, Any]:
        """Run one job; return its result, or its error, as strict JSON.

        Raises:
            JobCancelled: `cancelled` became true.
        """


class Runner:
    """Runs jobs in threads of its own, as many at once as the worker may hold."""

    def __init__(self, worker: Worker, concurrency: int) -> None:
        self._worker = worker
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="job")

    async def handler(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run a job where there is no platform: progress goes to the log."""

        async def show(update: Update) -> None:
            log.info(update["message"])

        return await self.run(job, show)

    async def run(self, raw: Mapping[str, Any], send: Send) -> dict[str, Any]:
        """Run a job; cancel the task to stop it: it ends when the job's thread is done with it.

        Args:
            raw: The job as the platform hands it over.
            send: Sends progress; never after this has returned.
        """
        cancelled = threading.Event()
        async with ProgressSender(send) as progress:
            work = self._threads.submit(self._worker.run, raw, cancelled.is_set, progress.report)
            result = asyncio.wrap_future(work)
            try:
                # Shielded: cancelled itself, it would no longer tell when the thread is done.
                return await asyncio.shield(result)
            except asyncio.CancelledError:
                cancelled.set()
                progress.stop()
                if not work.cancel():  # it has its thread already
                    await _end_of(result)
                raise
            except Exception as error:
                extra = {"event": "job_failed", "error_code": InternalError.code}
                log.exception("the worker failed", extra=extra)
                return InternalError(f"{type(error).__name__} in the worker").as_result()


async def _end_of(work: asyncio.Future[Any]) -> None:
    """Wait until the thread is done with the job, also when it is cancelled a second time."""
    while not work.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({work})
    work.exception()  # JobCancelled, as a rule; nobody waits for a result any more
