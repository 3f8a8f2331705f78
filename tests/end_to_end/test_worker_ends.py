"""The worker's process ends, by itself or by force: its job and its ComfyUI."""

from __future__ import annotations

import os
import signal

import psutil

from tests.end_to_end.conftest import StartPlatform
from tests.end_to_end.workflows import colour_of, request, solid_colour


def test_a_killed_workers_job_succeeds_on_its_replacement(start: StartPlatform) -> None:
    with start() as platform:
        ((worker_id, pid),) = platform.worker_pids().items()
        family = psutil.Process(pid).children(recursive=True)
        assert any("main.py" in " ".join(child.cmdline()) for child in family), "no ComfyUI"
        job_id = platform.run(request(solid_colour(0x123456, seconds=3)))
        platform.wait_for(job_id, lambda job: "output" in job)  # ComfyUI is at it
        os.kill(pid, signal.SIGKILL)
        job = platform.wait(job_id, 60)
        assert colour_of(job) == 0x123456
        assert job["retries"] == 1
        assert job["workerId"] != worker_id
        _gone, alive = psutil.wait_procs(family, timeout=5)
        assert alive == []


def test_refresh_worker_gives_every_job_a_new_worker(start: StartPlatform) -> None:
    with start(env={"REFRESH_WORKER": "true"}) as platform:
        jobs = [platform.run_sync(request(solid_colour(colour))) for colour in (1, 2)]
        assert [colour_of(job) for job in jobs] == [1, 2]
        assert jobs[0]["workerId"] != jobs[1]["workerId"]
        assert not any("retries" in job for job in jobs)
