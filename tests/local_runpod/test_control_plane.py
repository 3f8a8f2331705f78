"""The workers' protocol, spoken by hand: what a worker does wrong, and what goes wrong for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests

from tests.support.platform import FAST, RunningPlatform, running_platform


class HandWorker:
    """A worker made of single requests."""

    def __init__(self, platform: RunningPlatform, worker_id: str) -> None:
        self.id = worker_id
        self._url = platform.control_url

    def get(self, operation: str, timeout: float = 10, **query: Any) -> requests.Response:
        """GET an operation of this worker."""
        url = f"{self._url}/{operation}/{self.id}"
        return requests.get(url, params={"gpu": "x", **query}, timeout=timeout)

    def take(self, timeout: float = 10) -> dict[str, Any]:
        """Take a job; there must be one."""
        response = self.get("job-take", timeout, job_in_progress=0)
        assert response.status_code == 200
        job: dict[str, Any] = response.json()
        return job

    def post(self, operation: str, job_id: str, body: Any) -> requests.Response:
        """POST something about a job, labelled as the SDK labels it."""
        data = {"data": body} if isinstance(body, bytes) else {"json": body}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        url = f"{self._url}/{operation}/{self.id}/{job_id}?gpu=x&isStream=false"
        return requests.post(url, headers=headers, timeout=30, **data)

    def done(self, job_id: str, body: Any) -> requests.Response:
        """Post progress or a result."""
        return self.post("job-done", job_id, body)


@pytest.fixture
def platform() -> Iterator[RunningPlatform]:
    with running_platform() as running:
        yield running


@pytest.fixture
def worker(platform: RunningPlatform) -> HandWorker:
    return HandWorker(platform, "w1")


def test_a_worker_gets_the_job_with_what_the_client_sent(
    platform: RunningPlatform, worker: HandWorker
) -> None:
    fields = {"s3Config": {"bucketName": "b"}, "policy": {"ttl": 60_000}}
    job_id = platform.run({"x": "ä"}, **fields, other=1)
    assert worker.take() == {"id": job_id, "input": {"x": "ä"}, **fields}


def test_job_take_is_held_until_a_job_comes(platform: RunningPlatform, worker: HandWorker) -> None:
    threading.Timer(0.3, platform.run, [{"x": 1}]).start()
    began = time.monotonic()
    assert worker.take()["input"] == {"x": 1}
    assert 0.2 < time.monotonic() - began < 8


def test_job_take_answers_204_when_nothing_comes() -> None:
    with running_platform(limits=replace(FAST, poll=0.2)) as platform:
        worker = HandWorker(platform, "w1")
        assert worker.get("job-take").status_code == 204
        assert worker.get("job-take-batch", batch_size=3).status_code == 204
        assert worker.get("job-stop").status_code == 204


def test_a_batch_takes_as_many_as_it_asks_for(
    platform: RunningPlatform, worker: HandWorker
) -> None:
    ids = [platform.run({"n": n}) for n in range(3)]
    assert [job["id"] for job in worker.get("job-take-batch", batch_size=2).json()] == ids[:2]
    assert [job["id"] for job in worker.get("job-take-batch", batch_size=2).json()] == ids[2:]


def test_the_idle_one_of_two_waiting_workers_gets_the_job(
    platform: RunningPlatform, worker: HandWorker
) -> None:
    idle = HandWorker(platform, "w2")
    platform.run({"n": 0})
    worker.take()
    taken: dict[str, Any] = {}

    def poll(who: HandWorker) -> None:
        taken.setdefault(who.id, who.get("job-take", 20))

    threads = [threading.Thread(target=poll, args=(who,)) for who in (worker, idle)]
    for thread in threads:
        thread.start()
        time.sleep(0.2)
    platform.run({"n": 1})
    threads[1].join(5)
    assert taken["w2"].json()["input"] == {"n": 1}
    platform.run({"n": 2})
    platform.run({"n": 3})
    threads[0].join(10)
    assert taken["w1"].status_code == 200


def test_a_job_is_not_lost_to_a_poll_that_was_hung_up(
    platform: RunningPlatform, worker: HandWorker
) -> None:
    with pytest.raises(requests.ReadTimeout):
        worker.take(timeout=0.2)
    time.sleep(0.2)
    job_id = platform.run({})
    assert HandWorker(platform, "w2").take()["id"] == job_id
    assert "retries" not in platform.status(job_id)


def test_progress_is_the_output_until_the_result_replaces_it(
    platform: RunningPlatform, worker: HandWorker
) -> None:
    job_id = platform.run({})
    worker.take()
    for percent in (10, 60):
        worker.done(job_id, {"status": "IN_PROGRESS", "output": {"percent": percent}})
    assert platform.status(job_id)["output"] == {"percent": 60}
    assert platform.status(job_id)["status"] == "IN_PROGRESS"
    worker.done(job_id, {"output": "result"})
    assert platform.status(job_id)["output"] == "result"


def test_whatever_comes_after_the_end_is_ignored(
    platform: RunningPlatform, worker: HandWorker
) -> None:
    job_id = platform.run({})
    worker.take()
    worker.done(job_id, {"output": "result"})
    before = platform.status(job_id)
    for late in ({"status": "IN_PROGRESS", "output": 1}, {"output": 2}, {"error": "late"}):
        assert worker.done(job_id, late).status_code == 200
    worker.post("job-stream", job_id, {"output": "late"})
    assert platform.status(job_id) == before
    assert platform.get(f"/stream/{job_id}").json()["stream"] == []


@pytest.mark.parametrize(
    ("posted", "seen"),
    [
        ({"output": {"k": 1}}, {"status": "COMPLETED", "output": {"k": 1}}),
        ({"output": []}, {"status": "COMPLETED", "output": []}),
        ({}, {"status": "COMPLETED"}),
        ({"output": None}, {"status": "COMPLETED"}),
        ({"error": "E"}, {"status": "FAILED", "error": "E"}),
        (
            {"error": "E", "output": {"c": 7}},
            {"status": "FAILED", "error": "E", "output": {"c": 7}},
        ),
        ({"error": {"a": "ä"}}, {"status": "FAILED", "error": '{"a": "ä"}'}),
        ({"error": "", "output": 1}, {"status": "COMPLETED", "output": 1}),
    ],
)
def test_results_are_shown_as_hosted(
    platform: RunningPlatform, worker: HandWorker, posted: Any, seen: dict[str, Any]
) -> None:
    job_id = platform.run({})
    worker.take()
    assert worker.done(job_id, posted).status_code == 200
    job = platform.status(job_id)
    assert {name: job.get(name) for name in ("status", "output", "error") if name in job} == seen


@pytest.mark.parametrize(
    "body",
    [b'{"output": NaN}', b"", b"[]", b'{"output": "' + b"x" * (10 * 1024 * 1024) + b'"}'],
    ids=["NaN", "nothing", "a list", "too large"],
)
def test_a_result_that_hosted_refuses_is_refused_and_lost(
    platform: RunningPlatform, worker: HandWorker, body: bytes
) -> None:
    job_id = platform.run({})
    worker.take()
    assert worker.done(job_id, body).status_code == 400
    job = platform.status(job_id)
    assert job["status"] == "COMPLETED"
    assert "output" not in job


def test_runsync_results_may_have_20_mb() -> None:
    with running_platform(limits=replace(FAST, lost_after=60)) as platform:  # it sends no pings
        worker = HandWorker(platform, "w1")
        job_id = platform.post("/runsync?wait=10", {"input": {}}).json()["id"]
        worker.take()
        text = "x" * 19_000_000
        assert worker.done(job_id, {"output": text}).status_code == 200
        assert platform.status(job_id)["output"] == text


def test_a_cancelled_job_is_stopped_on_the_long_poll(
    platform: RunningPlatform, worker: HandWorker
) -> None:
    job_id = platform.run({})
    worker.take()
    threading.Timer(0.3, platform.post, [f"/cancel/{job_id}"]).start()
    assert worker.get("job-stop").json() == {"jobsToStop": [job_id]}


def test_a_stop_is_held_back_until_the_sdk_can_have_begun_the_job(
    platform: RunningPlatform, worker: HandWorker
) -> None:
    job_id = platform.run({})
    began = time.monotonic()
    worker.take()
    platform.post(f"/cancel/{job_id}")
    assert worker.get("job-stop").json() == {"jobsToStop": [job_id]}
    assert time.monotonic() - began >= FAST.stop_not_before - 0.1


def test_a_job_that_pings_stop_naming_is_run_once_more_and_then_fails(
    platform: RunningPlatform, worker: HandWorker
) -> None:
    job_id = platform.run({})
    for retries in (1, 2):
        assert worker.take()["id"] == job_id
        worker.get("ping", job_id=f"{job_id},other")
        assert platform.status(job_id)["status"] == "IN_PROGRESS"
        time.sleep(FAST.unowned_after + 0.2)
        worker.get("ping")
        assert platform.status(job_id)["retries"] == 1, f"after loss {retries}"
    job = platform.status(job_id)
    assert (job["status"], job["error"]) == ("FAILED", "job timed out after 1 retries")
    assert platform.health()["jobs"]["retried"] == 1


def test_a_worker_without_pings_loses_its_job_to_another(
    platform: RunningPlatform, worker: HandWorker
) -> None:
    job_id = platform.run({})
    worker.take()
    worker.get("ping", job_id=job_id)
    platform.wait_for(job_id, lambda job: job["status"] == "IN_QUEUE")
    other = HandWorker(platform, "w2")
    assert other.take()["id"] == job_id
    worker.done(job_id, {"output": "from the lost one"})
    assert platform.status(job_id)["status"] == "IN_PROGRESS"
    other.done(job_id, {"output": "from the other"})
    job = platform.status(job_id)
    assert (job["output"], job["retries"], job["workerId"]) == ("from the other", 1, "w2")


def test_stream_hands_each_chunk_out_once(platform: RunningPlatform, worker: HandWorker) -> None:
    job_id = platform.run({})
    worker.take()
    for chunk in ("a", "b"):
        worker.post("job-stream", job_id, {"output": chunk})
    assert platform.get(f"/stream/{job_id}").json() == {
        "status": "IN_PROGRESS",
        "stream": [{"output": "a"}, {"output": "b"}],
    }
    assert platform.get(f"/stream/{job_id}?wait=50").json()["stream"] == []
    worker.post("job-stream", job_id, {"output": "c"})
    worker.done(job_id, {"output": []})
    final = {"status": "COMPLETED", "stream": [{"output": "c"}]}
    assert platform.get(f"/stream/{job_id}").json() == final
    assert platform.get(f"/stream/{job_id}").json() == {"status": "COMPLETED", "stream": []}


def test_faults_can_be_injected(platform: RunningPlatform, worker: HandWorker) -> None:
    job_id = platform.run({})
    fault = platform.faults.add("job-take", status=401, times=2)
    assert [worker.get("job-take").status_code for _ in range(3)] == [401, 401, 200]
    assert fault.hits == 2
    platform.faults.add("job-done", drop="before")
    platform.faults.add("job-done", drop="after")
    with pytest.raises(requests.ConnectionError):
        worker.done(job_id, {"output": 1})
    assert platform.status(job_id)["status"] == "IN_PROGRESS"
    with pytest.raises(requests.ConnectionError):
        worker.done(job_id, {"output": 2})
    assert platform.status(job_id)["output"] == 2
    platform.faults.add("ping", delay_s=0.3)
    began = time.monotonic()
    assert worker.get("ping").status_code == 200
    assert time.monotonic() - began >= 0.3
