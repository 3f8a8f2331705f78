from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from local_runpod.jobs.job import Job
from local_runpod.jobs.job_queue import (
    JobNotFoundError,
    JobQueue,
    NotRetryableError,
    QueueFullError,
)
from local_runpod.limits import Limits


@dataclass
class Bench:
    """A queue whose time the test sets."""

    limits: Limits = field(default_factory=Limits)
    now: float = 1000.0
    ended: list[dict[str, Any]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue = JobQueue(
            self.limits,
            on_end=lambda job: self.ended.append(job.view()),
            on_stop=lambda job: self.stopped.append(job.id),
            clock=lambda: self.now,
        )

    def submit(self, *, sync: bool = False, size: int = 10, **fields: Any) -> Job:
        """Submit a request with these fields."""
        return self.queue.submit({"input": {"x": 1}, **fields}, sync=sync, size=size)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and be noticed."""
        self.now += seconds
        self.queue.sweep()


def test_a_job_goes_from_the_queue_over_a_worker_to_its_result() -> None:
    bench = Bench()
    job = bench.submit()
    assert job.view() == {"id": job.id, "status": "IN_QUEUE"}

    bench.now += 0.018
    assert bench.queue.take("w", 1) == [job]
    assert job.view() == {
        "delayTime": 18,
        "id": job.id,
        "status": "IN_PROGRESS",
        "workerId": "w",
    }

    bench.now += 3.986
    bench.queue.finish(job, {"k": 1}, None, 20)
    assert job.view() == {
        "delayTime": 18,
        "executionTime": 3986,
        "id": job.id,
        "output": {"k": 1},
        "status": "COMPLETED",
        "workerId": "w",
    }
    assert list(job.view()) == sorted(job.view())
    assert bench.ended == [job.view()]


def test_job_ids_have_the_hosted_form() -> None:
    bench = Bench()
    uuid = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    assert re.fullmatch(f"{uuid}-u1", bench.submit().id)
    assert re.fullmatch(f"sync-{uuid}-u1", bench.submit(sync=True).id)


def test_jobs_are_handed_out_in_order_and_once() -> None:
    bench = Bench()
    jobs = [bench.submit() for _ in range(3)]
    assert bench.queue.take("a", 2) == jobs[:2]
    assert bench.queue.take("b", 2) == jobs[2:]
    assert bench.queue.take("b", 2) == []


def test_an_error_makes_the_job_failed_and_keeps_what_else_was_returned() -> None:
    bench = Bench()
    job = bench.submit()
    bench.queue.take("w", 1)
    bench.queue.finish(job, {"code": 7}, "E", 5)
    assert job.view() | {"delayTime": 0, "executionTime": 0} == {
        "delayTime": 0,
        "error": "E",
        "executionTime": 0,
        "id": job.id,
        "output": {"code": 7},
        "status": "FAILED",
        "workerId": "w",
    }


def test_a_job_cancelled_in_the_queue_is_never_handed_out() -> None:
    bench = Bench()
    job = bench.submit()
    bench.queue.cancel(job.id)
    assert job.view() == {"id": job.id, "status": "CANCELLED"}
    assert bench.queue.take("w", 1) == []
    assert bench.stopped == []


def test_cancelling_a_running_job_tells_its_worker_and_drops_its_progress() -> None:
    bench = Bench()
    job = bench.submit()
    bench.queue.take("w", 1)
    job.progress({"percent": 50})
    bench.now += 1
    bench.queue.cancel(job.id)
    assert bench.stopped == [job.id]
    assert job.view() == {
        "delayTime": 0,
        "executionTime": 1000,
        "id": job.id,
        "status": "CANCELLED",
        "workerId": "w",
    }


def test_cancelling_what_is_over_changes_nothing() -> None:
    bench = Bench()
    job = bench.submit()
    bench.queue.take("w", 1)
    bench.queue.finish(job, "done", None, 4)
    before = job.view()
    assert bench.queue.cancel(job.id).view() == before
    assert len(bench.ended) == 1


def test_only_the_worker_that_runs_a_job_can_speak_for_it() -> None:
    bench = Bench()
    job = bench.submit()
    assert bench.queue.running("w", job.id) is None
    bench.queue.take("w", 1)
    assert bench.queue.running("w", job.id) is job
    assert bench.queue.running("other", job.id) is None
    bench.queue.finish(job, "done", None, 4)
    assert bench.queue.running("w", job.id) is None


def test_a_lost_job_is_run_once_more_and_then_fails() -> None:
    bench = Bench()
    job = bench.submit()
    bench.now += 61
    bench.queue.take("a", 1)
    bench.now += 40
    bench.queue.release("a")
    assert job.view() == {"id": job.id, "retries": 1, "status": "IN_QUEUE"}
    assert bench.queue.counters()["retried"] == 1

    bench.queue.take("b", 1)
    assert job.view() == {
        "delayTime": 101_000,
        "id": job.id,
        "retries": 1,
        "status": "IN_PROGRESS",
        "workerId": "b",
    }
    bench.now += 42
    bench.queue.release("b")
    assert job.view() == {
        "delayTime": 101_000,
        "error": "job timed out after 1 retries",
        "executionTime": 42_000,
        "id": job.id,
        "retries": 1,
        "status": "FAILED",
        "workerId": "b",
    }


def test_a_lost_job_goes_before_the_others() -> None:
    bench = Bench()
    lost, other = bench.submit(), bench.submit()
    bench.queue.take("a", 1)
    bench.queue.release("a")
    assert bench.queue.take("b", 2) == [lost, other]


def test_a_job_that_never_reached_its_worker_is_given_back_without_counting() -> None:
    bench = Bench()
    job = bench.submit()
    bench.queue.give_back(bench.queue.take("w", 1))
    assert job.view() == {"id": job.id, "status": "IN_QUEUE"}
    assert bench.queue.take("w", 1) == [job]


def test_a_job_that_pings_do_not_name_is_lost_after_a_while() -> None:
    bench = Bench(Limits(unowned_after=30))
    job, other = bench.submit(), bench.submit()
    bench.queue.take("w", 2)
    bench.now += 29
    bench.queue.reported("w", [other.id])
    assert job.status == "IN_PROGRESS"
    bench.now += 2
    bench.queue.reported("w", [other.id])
    assert job.status == "IN_QUEUE"
    assert other.status == "IN_PROGRESS"


def test_the_execution_timeout_fails_the_job_and_stops_the_worker() -> None:
    bench = Bench()
    job = bench.submit(policy={"executionTimeout": 5000})
    bench.pass_time(100)
    bench.queue.take("w", 1)
    bench.pass_time(4.9)
    assert job.status == "IN_PROGRESS"
    bench.pass_time(0.2)
    assert job.view()["status"] == "FAILED"
    assert job.view()["error"] == "executionTimeout exceeded"
    assert bench.stopped == [job.id]
    assert bench.queue.counters()["failed"] == 1


@pytest.mark.parametrize("running", [True, False])
def test_a_job_that_outlives_its_ttl_is_deleted_in_any_state(running: bool) -> None:
    bench = Bench()
    job = bench.submit(policy={"ttl": 10_000})
    if running:
        bench.queue.take("w", 1)
    bench.pass_time(11)
    with pytest.raises(JobNotFoundError):
        bench.queue.get(job.id)
    assert bench.ended[0]["status"] == "TIMED_OUT"
    assert bench.stopped == ([job.id] if running else [])
    assert bench.queue.take("w", 1) == []


def test_results_are_kept_for_their_time_and_no_longer() -> None:
    bench = Bench(Limits(run_retention=1800, runsync_retention=60))
    jobs = {sync: bench.submit(sync=sync) for sync in (True, False)}
    for job in bench.queue.take("w", 2):
        bench.queue.finish(job, "done", None, 4)
    bench.pass_time(59)
    assert bench.queue.get(jobs[True].id)
    bench.pass_time(2)
    with pytest.raises(JobNotFoundError):
        bench.queue.get(jobs[True].id)
    bench.pass_time(1700)
    assert bench.queue.get(jobs[False].id)
    bench.pass_time(100)
    with pytest.raises(JobNotFoundError):
        bench.queue.get(jobs[False].id)


def test_a_failed_job_can_be_retried_with_the_same_id_and_input() -> None:
    bench = Bench()
    job = bench.submit()
    bench.queue.take("w", 1)
    bench.queue.finish(job, {"details": []}, "E", 4)
    assert bench.queue.retry(job.id).view() == {"id": job.id, "status": "IN_QUEUE"}
    assert bench.queue.take("w", 1)[0].request == {"input": {"x": 1}}


def test_only_failures_can_be_retried() -> None:
    bench = Bench()
    job = bench.submit()
    for _ in range(2):
        with pytest.raises(NotRetryableError, match=job.status):
            bench.queue.retry(job.id)
        bench.queue.take("w", 1)


def test_purging_drops_what_waits_and_nothing_else() -> None:
    bench = Bench()
    running, first, second = (bench.submit() for _ in range(3))
    bench.queue.take("w", 1)
    assert bench.queue.purge() == 2
    assert (running.status, first.status, second.status) == (
        "IN_PROGRESS",
        "CANCELLED",
        "CANCELLED",
    )


def test_the_queue_is_bounded() -> None:
    bench = Bench(Limits(queue_length=2))
    bench.submit()
    bench.submit()
    with pytest.raises(QueueFullError):
        bench.submit()


def test_old_results_make_room_for_new_requests() -> None:
    bench = Bench(Limits(kept_bytes=100))
    old, newer = bench.submit(), bench.submit()
    for job in bench.queue.take("w", 2):
        bench.queue.finish(job, "x", None, 30)
    bench.submit(size=40)
    with pytest.raises(JobNotFoundError):
        bench.queue.get(old.id)
    assert bench.queue.get(newer.id)
    with pytest.raises(QueueFullError):
        bench.submit(size=100)


def test_only_known_fields_of_a_request_reach_the_worker() -> None:
    bench = Bench()
    fields: dict[str, Any] = {
        "s3Config": {"bucketName": "b"},
        "policy": {"ttl": 60_000},
        "webhook": "http://h/",
    }
    job = bench.submit(**fields, timeout=3, webhookV2=None)
    assert job.request == {"input": {"x": 1}, **fields}
