"""Real workers on the real SDK's production loop."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from local_runpod.server import StartError
from tests.local_runpod.conftest import StartPlatform
from tests.support.platform import FINAL, RunningPlatform
from tests.support.waiting import wait_until


def group_members(pid: int) -> list[int]:
    """The processes of a process group that run now."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return members


def test_a_job_runs_through_the_sdk(platform: RunningPlatform) -> None:
    job = platform.run_sync({"x": "ü"})
    assert job["output"] == {"echo": {"x": "ü"}}
    assert job["status"] == "COMPLETED"
    assert job["workerId"] in platform.worker_pids()
    assert job["delayTime"] >= 0
    assert job["executionTime"] >= 0
    assert set(job) == {"id", "status", "output", "workerId", "delayTime", "executionTime"}


def test_the_handler_sees_policy_and_bucket_of_the_request(platform: RunningPlatform) -> None:
    fields = {"policy": {"ttl": 60_000}, "s3Config": {"accessSecret": "s"}}
    job = platform.run_sync({"whole_job": True}, **fields)
    assert job["output"] == {"id": job["id"], "input": {"whole_job": True}, **fields}


def test_an_error_result_fails_the_job(platform: RunningPlatform) -> None:
    result = {"error": "CODE: why", "error_code": "CODE", "details": [], "retryable": False}
    job = platform.run_sync({"result": result})
    assert (job["status"], job["error"]) == ("FAILED", "CODE: why")
    assert job["output"] == {"error_code": "CODE", "details": [], "retryable": False}


def test_an_exception_is_an_error_of_json_text(platform: RunningPlatform) -> None:
    job = platform.run_sync({"raise": "boom"})
    assert job["status"] == "FAILED"
    assert json.loads(job["error"])["error_message"] == "boom"
    assert "output" not in job


def test_progress_is_seen_while_the_job_runs(platform: RunningPlatform) -> None:
    job_id = platform.run({"progress": [{"percent": 1}, {"percent": 2}], "sleep": 1})
    running = platform.wait_for(job_id, lambda job: job.get("output") == {"percent": 2})
    assert running["status"] == "IN_PROGRESS"
    assert platform.wait(job_id)["output"]["echo"]["sleep"] == 1


def test_a_result_that_is_too_large_is_lost_as_hosted(platform: RunningPlatform) -> None:
    job = platform.wait(platform.run({"bytes": 11_000_000}))
    assert job["status"] == "COMPLETED"
    assert "output" not in job


def test_cancelling_a_running_job_reaches_the_handler(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    job_id = platform.run({"sleep": 60, "cleanup": str(witness)})
    platform.wait_for(job_id, lambda job: job["status"] == "IN_PROGRESS")
    assert platform.post(f"/cancel/{job_id}").json()["status"] == "CANCELLED"
    wait_until(witness.exists, 5)
    assert platform.run_sync({"x": 1})["status"] == "COMPLETED"


def test_the_execution_timeout_stops_the_handler(platform: RunningPlatform, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    job = platform.run_sync(
        {"sleep": 60, "cleanup": str(witness)}, policy={"executionTimeout": 500}
    )
    assert (job["status"], job["error"]) == ("FAILED", "executionTimeout exceeded")
    assert 500 <= job["executionTime"] < 2000
    wait_until(witness.exists, 5)


def test_two_workers_work_at_the_same_time(platform: RunningPlatform) -> None:
    jobs = [platform.run({"sleep": 1.5}) for _ in range(2)]
    platform.wait_for(jobs[0], lambda _job: platform.health()["jobs"]["inProgress"] == 2)
    assert platform.health()["workers"]["running"] == 2
    assert {platform.wait(job)["workerId"] for job in jobs} == set(platform.worker_pids())


def test_a_result_arrives_in_spite_of_server_errors_and_dropped_connections(
    platform: RunningPlatform,
) -> None:
    faults: list[dict[str, Any]] = [{"status": 500}, {"drop": "before"}, {"drop": "after"}]
    for fault in faults:
        planned = platform.faults.add("job-done", **fault)
        job = platform.run_sync({"fault": str(fault)})
        assert planned.hits == 1
        assert job["output"] == {"echo": {"fault": str(fault)}}


def test_a_killed_workers_job_is_run_once_more_by_another(
    start: StartPlatform, tmp_path: Path
) -> None:
    with start() as platform:
        (before,) = platform.worker_pids().items()
        once = {"kill": 1, "counter": str(tmp_path / "once")}
        job = platform.run_sync(once)
        assert (job["status"], job["retries"]) == ("COMPLETED", 1)
        assert job["workerId"] != before[0]
        assert group_members(before[1]) == []  # the SDK's ping process outlives a SIGKILL

        always = {"kill": 9, "counter": str(tmp_path / "always")}
        job = platform.run_sync(always)
        assert (job["status"], job["error"]) == ("FAILED", "job timed out after 1 retries")
        assert platform.run_sync({"x": 1})["status"] == "COMPLETED"
        assert platform.health()["jobs"]["retried"] == 2


def test_a_frozen_worker_is_missed_by_its_pings_and_replaced(start: StartPlatform) -> None:
    with start() as platform:
        (pid,) = platform.worker_pids().values()
        job_id = platform.run({"sleep": 3})
        platform.wait_for(job_id, lambda job: job["status"] == "IN_PROGRESS")
        os.killpg(pid, signal.SIGSTOP)
        job = platform.wait(job_id)
        assert (job["status"], job["retries"]) == ("COMPLETED", 1)
        wait_until(lambda: not psutil.pid_exists(pid))


def test_a_worker_that_asks_for_it_is_replaced_after_its_job(start: StartPlatform) -> None:
    with start() as platform:
        (before,) = platform.worker_pids()
        job = platform.run_sync({"result": {"k": 1, "refresh_worker": True}})
        assert job["output"] == {"k": 1}
        job = platform.run_sync({})
        assert job["status"] == "COMPLETED"
        assert job["workerId"] != before
        assert "retries" not in job


def test_a_worker_that_ends_after_each_job_is_started_again(start: StartPlatform) -> None:
    with start(env={"REFRESH": "1"}) as platform:
        jobs = [platform.wait(platform.run({"n": n})) for n in range(2)]
        assert [job["output"]["echo"]["n"] for job in jobs] == [0, 1]
        assert len({job["workerId"] for job in jobs}) == 2
        assert not any("retries" in job for job in jobs)


def test_a_worker_may_hold_several_jobs(start: StartPlatform) -> None:
    with start(env={"CONCURRENCY": "3"}) as platform:
        jobs = [platform.run({"sleep": 1.5}) for _ in range(3)]
        platform.wait_for(jobs[2], lambda _job: platform.health()["jobs"]["inProgress"] == 3)
        for job_id in jobs:
            assert platform.wait(job_id)["status"] == "COMPLETED"


def test_a_generators_chunks_are_streamed(start: StartPlatform) -> None:
    with start(env={"GENERATOR": "1"}) as platform:
        job_id = platform.run({"chunks": ["a", {"b": 1}, "c"], "gap": 0.3})
        chunks: list[Any] = []
        status = ""
        while status not in FINAL:
            answer = platform.get(f"/stream/{job_id}").json()
            chunks += [chunk["output"] for chunk in answer["stream"]]
            status = answer["status"]
        assert chunks == ["a", {"b": 1}, "c"]
        assert platform.status(job_id)["output"] == []


def test_a_worker_that_cannot_start_is_reported_with_its_last_lines(start: StartPlatform) -> None:
    with (
        pytest.raises(StartError, match="no GPU here"),
        start(env={"FAIL_AT_START": "1"}),
    ):
        pass


def test_ending_the_platform_leaves_nothing_behind(start: StartPlatform) -> None:
    with start(workers=2) as platform:
        platform.run({"sleep": 60})
        pids = list(platform.worker_pids().values())
        folders = platform.worker_folders()
        assert all(folder.exists() for folder in folders)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert [group_members(pid) for pid in pids] == [[], []]
    assert not any(folder.exists() for folder in folders)
