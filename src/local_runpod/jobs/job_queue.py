"""Every job that the platform knows, and the queue of those that wait for a worker.

All methods are synchronous and belong to one event loop; `Bell`s tell the waiting ones of changes.
"""

from __future__ import annotations

import itertools
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from local_runpod.bell import Bell
from local_runpod.jobs import listing
from local_runpod.jobs.job import RETRYABLE, Job, Status
from local_runpod.limits import Limits

log = logging.getLogger(__name__)

WORKER_FIELDS = ("input", "webhook", "s3Config", "policy")


class JobNotFoundError(LookupError):
    """No job of that id, or not any more."""


class QueueFullError(RuntimeError):
    """More jobs wait than the platform keeps."""


class NotRetryableError(RuntimeError):
    """The job is in a state that cannot be retried."""


class JobQueue:
    """The store and the queue.

    Args:
        limits: Lengths, sizes and times.
        news: Rung when a job waits for a worker.
        on_end: Called with every job that ended.
        on_stop: Called with every job that ends while a worker is busy with it.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        news: Bell | None = None,
        on_end: Callable[[Job], None] = lambda _job: None,
        on_stop: Callable[[Job], None] = lambda _job: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._on_end = on_end
        self._on_stop = on_stop
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._running: dict[str, Job] = {}
        self._kept_bytes = 0
        self._completed = self._failed = self._redispatched = 0
        self._news = news or Bell()

    # Clients

    def submit(self, request: Mapping[str, Any], *, sync: bool, size: int) -> Job:
        """Queue a checked request body.

        Raises:
            QueueFullError: Too many jobs, or too many bytes, are kept already.
        """
        self._make_room(size)
        if len(self._waiting) >= self._limits.queue_length:
            raise QueueFullError(f"{len(self._waiting)} jobs are waiting already")
        policy = request.get("policy") or {}
        job = Job(
            # As hosted ids look: the worker tells by `sync-` which limit a result has.
            id=f"{'sync-' if sync else ''}{uuid.uuid4()}-u1",
            request={
                name: request[name] for name in WORKER_FIELDS if request.get(name) is not None
            },
            sync=sync,
            size=size,
            queued_at=self._clock(),
            execution_timeout=_seconds(policy, "executionTimeout", self._limits.execution_timeout),
            ttl=_seconds(policy, "ttl", self._limits.ttl),
        )
        self._jobs[job.id] = job
        self._kept_bytes += size
        self._enqueue(job)
        return job

    def get(self, job_id: str) -> Job:
        """Find a job.

        Raises:
            JobNotFoundError: It is unknown or expired.
        """
        job = self._jobs.get(job_id)
        if job is None:
            raise JobNotFoundError(job_id)
        return job

    def cancel(self, job_id: str) -> Job:
        """End a queued or running job; one that is over stays as it is."""
        job = self.get(job_id)
        if not job.status.is_final:
            self._stop(job)
            job.cancel(self._clock())
            self._ended(job)
        return job

    def retry(self, job_id: str) -> Job:
        """Queue a failed job again: same id, same input.

        Raises:
            NotRetryableError: The job has not failed.
        """
        job = self.get(job_id)
        if job.status not in RETRYABLE:
            raise NotRetryableError(
                f"job is {job.status}; only FAILED and TIMED_OUT can be retried"
            )
        self._kept_bytes -= job.result_size
        job.restart(self._clock())
        self._enqueue(job)
        return job

    def purge(self) -> int:
        """Drop every queued job; those that run go on."""
        purged = list(self._waiting)
        for job in purged:
            self.cancel(job.id)
        return len(purged)

    def set_ttl(self, job: Job, ttl_s: float) -> None:
        """Let the job live so many seconds from now."""
        job.ttl = self._clock() - job.queued_at + ttl_s

    def counters(self) -> dict[str, int]:
        """The `jobs` of `/health`, since the platform started."""
        return {
            "completed": self._completed,
            "failed": self._failed,
            "inProgress": len(self._running),
            "inQueue": len(self._waiting),
            "retried": self._redispatched,
        }

    def listing(self, longest: int) -> list[dict[str, Any]]:
        """Sum up the newest jobs, newest first."""
        began_ms = (time.time() - self._clock()) * 1000
        newest = itertools.islice(reversed(self._jobs.values()), longest)
        return [
            listing.summary(job, round(began_ms + job.queued_at * 1000)) for job in list(newest)
        ]

    # Workers

    @property
    def has_waiting(self) -> bool:
        """Whether a worker could take a job now."""
        return bool(self._waiting)

    def take(self, worker_id: str, count: int) -> list[Job]:
        """Hand out up to `count` jobs, oldest first."""
        jobs = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        for job in jobs:
            job.start(worker_id, self._clock())
            self._running[job.id] = job
            log.info("job %s IN_PROGRESS on %s", job.id, worker_id)
        return jobs

    def give_back(self, jobs: Collection[Job]) -> None:
        """Take back jobs that did not reach their worker; not an attempt that counts."""
        for job in jobs:
            if self._running.get(job.id) is job:
                self._requeue_first(job)

    def held_by(self, worker_id: str) -> list[Job]:
        """The jobs that a worker is running."""
        return [job for job in self._running.values() if job.worker_id == worker_id]

    def running(self, worker_id: str, job_id: str) -> Job | None:
        """The job, if this worker is the one to say something about it; final beats late posts."""
        job = self._running.get(job_id)
        return job if job is not None and job.worker_id == worker_id else None

    def finish(self, job: Job, output: Any, error: str | None, size: int) -> None:
        """Store a running job's result."""
        job.finish(output, error, self._clock(), size)
        self._kept_bytes += size
        self._ended(job)

    def reported(self, worker_id: str, job_ids: Collection[str]) -> None:
        """Compare with what a worker's ping says it runs; a job that it never owned is lost."""
        now = self._clock()
        for job in self.held_by(worker_id):
            started = job.started_at or now
            if job.id not in job_ids and now - started > self._limits.unowned_after:
                self._lose(job, f"{worker_id} does not report it")

    def release(self, worker_id: str) -> None:
        """Take every job from a worker that is gone."""
        for job in self.held_by(worker_id):
            self._lose(job, f"{worker_id} is gone")

    # Time

    def sweep(self) -> None:
        """Do what time demands: execution timeouts, time to live, retention."""
        now = self._clock()
        for job in list(self._running.values()):
            if now >= job.overruns_at:
                self._stop(job)
                job.fail("executionTimeout exceeded", now)
                self._ended(job)
        # After the timeouts: a job that is over by both has failed.
        for job in list(self._jobs.values()):
            if now >= job.expires_at:
                if not job.status.is_final:
                    self._stop(job)
                    job.expire(now)
                    self._ended(job)
                self._forget(job)
            elif job.ended_at is not None and now >= job.ended_at + self._retention(job):
                self._forget(job)

    # Inside

    def _enqueue(self, job: Job) -> None:
        self._waiting.append(job)
        log.info("job %s IN_QUEUE", job.id)
        self._news.ring()

    def _requeue_first(self, job: Job) -> None:
        del self._running[job.id]
        job.requeue()
        self._waiting.appendleft(job)
        self._news.ring()

    def _lose(self, job: Job, reason: str) -> None:
        """Hosted: one automatic retry, then this very error."""
        log.warning("job %s lost its worker: %s", job.id, reason)
        if job.retries < self._limits.automatic_retries:
            job.retries += 1
            self._redispatched += 1
            self._requeue_first(job)
        else:
            job.fail(f"job timed out after {job.retries} retries", self._clock())
            self._ended(job)

    def _stop(self, job: Job) -> None:
        if job.status is Status.IN_PROGRESS:
            self._on_stop(job)

    def _ended(self, job: Job) -> None:
        self._running.pop(job.id, None)
        if job in self._waiting:
            self._waiting.remove(job)
        if job.status is Status.COMPLETED:
            self._completed += 1
        elif job.status is not Status.CANCELLED:
            self._failed += 1
        log.info(
            "job %s %s%s", job.id, job.status, f": {_first_line(job.error)}" if job.error else ""
        )
        self._on_end(job)

    def _retention(self, job: Job) -> float:
        return self._limits.runsync_retention if job.sync else self._limits.run_retention

    def _forget(self, job: Job) -> None:
        del self._jobs[job.id]
        self._kept_bytes -= job.size + job.result_size

    def _make_room(self, size: int) -> None:
        """Forget the oldest results, where the next request would not fit otherwise.

        Raises:
            QueueFullError: Even without results it does not fit.
        """
        finished = (job for job in list(self._jobs.values()) if job.status.is_final)
        while self._kept_bytes + size > self._limits.kept_bytes:
            oldest = next(finished, None)
            if oldest is None:
                raise QueueFullError(f"{self._kept_bytes} bytes of requests are waiting already")
            self._forget(oldest)


def _seconds(policy: Mapping[str, Any], name: str, default: float) -> float:
    milliseconds = policy.get(name)
    return default if milliseconds is None else milliseconds / 1000


def _first_line(text: str, limit: int = 200) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= limit else line[: limit - 1] + "…"
