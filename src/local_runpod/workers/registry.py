"""The workers that the platform hears of: signs of life, readiness, stop signals."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from local_runpod.bell import Bell
from local_runpod.limits import Limits


@dataclass(kw_only=True, eq=False)
class Worker:
    """One worker, known by its pod id."""

    id: str
    ready: bool = False  # it has asked for jobs
    draining: bool = False  # it gets no more jobs
    released: bool = False  # its polls are ended
    pinged_at: float | None = None
    stops: dict[str, float] = field(default_factory=dict)  # job id -> not before this time


class Registry:
    """All workers by id.

    Args:
        limits: How long a worker may be silent.
        news: Rung when something changes for a worker.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        news: Bell | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self.news = news or Bell()
        self._clock = clock
        self._workers: dict[str, Worker] = {}
        self.unhealthy = 0  # workers that ended before they were ready, waiting to be started again

    def add(self, worker_id: str) -> Worker:
        """Get the worker of this id; an unknown one is new."""
        worker = self._workers.setdefault(worker_id, Worker(id=worker_id))
        self.news.ring()
        return worker

    def get(self, worker_id: str) -> Worker | None:
        """Get the worker of this id, if it is known."""
        return self._workers.get(worker_id)

    def remove(self, worker_id: str) -> None:
        """Forget a worker."""
        self.release(worker_id)
        self._workers.pop(worker_id, None)

    def release(self, worker_id: str) -> None:
        """End the polls of a worker that was told to end, so that it needn't wait for them."""
        if worker := self.get(worker_id):
            worker.released = True
            self.news.ring()

    def mark_ready(self, worker: Worker) -> None:
        """The worker asks for jobs, so it has started; from now on it must ping."""
        if not worker.ready:
            worker.ready = True
            worker.pinged_at = self._clock()
            self.news.ring()

    def drain(self, worker_id: str) -> None:
        """Give a worker no more jobs."""
        if worker := self.get(worker_id):
            worker.draining = True

    def ping(self, worker_id: str) -> None:
        """Note a sign of life. An unknown worker is not added: its ping may outlive it."""
        if worker := self.get(worker_id):
            worker.pinged_at = self._clock()

    def lost(self) -> list[str]:
        """The workers that were ready and have not pinged for too long; each is named once."""
        oldest = self._clock() - self._limits.lost_after
        lost = []
        for worker in self._workers.values():
            if worker.pinged_at is not None and worker.pinged_at < oldest:
                worker.pinged_at = None
                lost.append(worker.id)
        return lost

    # Stop signals

    def stop_job(self, worker_id: str, job_id: str, started_at: float) -> None:
        """Have a worker told to stop a job, once it can have begun it."""
        if worker := self.get(worker_id):
            worker.stops[job_id] = started_at + self._limits.stop_not_before
            self.news.ring()

    def until_stop_is_due(self, worker: Worker) -> float:
        """Seconds until the first of the worker's stop signals may be sent."""
        return max(0.0, min(worker.stops.values()) - self._clock())

    def due_stops(self, worker: Worker) -> list[str]:
        """The jobs that the worker should be told to stop by now."""
        now = self._clock()
        return [job_id for job_id, not_before in worker.stops.items() if not_before <= now]

    # Counting

    @property
    def ids(self) -> list[str]:
        """All workers that are known."""
        return list(self._workers)

    @property
    def ready_ids(self) -> list[str]:
        """The workers that can take jobs, now or after their present one."""
        return [w.id for w in self._workers.values() if w.ready and not w.draining]

    def counters(self, busy: Collection[str]) -> dict[str, int]:
        """The `workers` of `/health`; `busy` are the ids of those that hold a job."""
        running = sum(worker.id in busy for worker in self._workers.values())
        idle = sum(w.ready and not w.draining and w.id not in busy for w in self._workers.values())
        initializing = sum(not worker.ready for worker in self._workers.values())
        return {
            "idle": idle,
            "initializing": initializing,
            "ready": idle,
            "running": running,
            "throttled": 0,
            "unhealthy": self.unhealthy,
        }
