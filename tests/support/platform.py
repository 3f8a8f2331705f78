"""Starts the local RunPod platform for a test, in this process, with real worker processes.

```
with running_platform([sys.executable, "stub_worker.py"], folder=FOLDER) as platform:
    job = platform.run_sync({"x": 1})
```
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import requests

from local_runpod.background import BackgroundPlatform
from local_runpod.background import running_platform as running_background_platform
from local_runpod.limits import Limits
from local_runpod.server import PlatformSettings
from local_runpod.workers.environment import worker_environment
from local_runpod.workers.faults import Faults
from local_runpod.workers.pool import WorkerPlan

ROOT = Path(__file__).resolve().parents[2]

FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})
# Pings every second are the fastest that the SDK can do.
FAST = Limits(
    poll=5.0,
    ping_interval=1.0,
    lost_after=4.0,
    unowned_after=3.0,
    webhook_gaps=(0.05, 0.1),
    webhook_timeout=2.0,
    execution_timeout_range=(0.1, 600.0),
    ttl_range=(0.1, 600.0),
    wait_range=(0.01, 300.0),
)


class RunningPlatform:
    """A platform under test, seen as a client sees it, and from inside."""

    def __init__(self, background: BackgroundPlatform, lines: list[str]) -> None:
        self.background = background
        self.lines = lines  # what the workers printed, each with its worker's name

    # Outside

    @property
    def url(self) -> str:
        """The gateway's base address, without a slash at its end."""
        return self.background.url

    def post(
        self, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """POST JSON, or bytes as they are."""
        data = {"data": body} if isinstance(body, bytes) else {"json": body}
        return requests.post(self.url + path, headers=dict(headers or {}), timeout=60, **data)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """GET a path."""
        return requests.get(self.url + path, headers=dict(headers or {}), timeout=60)

    def run(self, job_input: Any, **fields: Any) -> str:
        """Submit a job; gives its id."""
        response = self.post("/run", {"input": job_input, **fields})
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    def run_sync(self, job_input: Any, **fields: Any) -> dict[str, Any]:
        """Submit a job and wait until it is over."""
        response = self.post("/runsync", {"input": job_input, **fields})
        assert response.status_code == 200, response.text
        job: dict[str, Any] = response.json()
        return job

    def status(self, job_id: str) -> dict[str, Any]:
        """The job as it is now."""
        response = self.get(f"/status/{job_id}")
        assert response.status_code == 200, response.text
        job: dict[str, Any] = response.json()
        return job

    def wait(self, job_id: str, seconds: float = 30) -> dict[str, Any]:
        """Wait until a job is over."""
        return self.wait_for(job_id, lambda job: job["status"] in FINAL, seconds)

    def wait_for(
        self, job_id: str, condition: Callable[[dict[str, Any]], bool], seconds: float = 30
    ) -> dict[str, Any]:
        """Wait until a job's status object fulfils a condition."""
        deadline = time.monotonic() + seconds
        while not condition(job := self.status(job_id)):
            assert time.monotonic() < deadline, f"still {job} after {seconds} s\n{self.log()}"
            time.sleep(0.05)
        return job

    def health(self) -> dict[str, Any]:
        """The endpoint's counters."""
        counters: dict[str, Any] = self.get("/health").json()
        return counters

    # Inside

    @property
    def faults(self) -> Faults:
        """Faults to inject into the workers' side."""
        return self.background.platform.faults

    @property
    def control_url(self) -> str:
        """The workers' base address."""
        platform = self.background.platform
        return f"http://127.0.0.1:{platform.control_port}/v2/{platform.token}"

    def worker_pids(self) -> dict[str, int]:
        """The main processes of the workers that run now, by worker id."""
        workers = self.background.platform.workers
        return self.background.call(
            lambda: {worker.id: worker.process.pid for worker in workers.running.values()}
        )

    def worker_folders(self) -> list[Path]:
        """The temporary folders of the workers that run now."""
        workers = self.background.platform.workers
        return self.background.call(lambda: [w.folder for w in workers.running.values()])

    def log(self) -> str:
        """Everything that the workers printed."""
        return "\n".join(self.lines)


@contextmanager
def running_platform(
    command: Sequence[str] = (),
    *,
    folder: Path = ROOT,
    env: Mapping[str, str] | None = None,
    worker_env: Callable[[Path], Mapping[str, str]] | None = None,
    workers: int = 1,
    limits: Limits = FAST,
    api_keys: tuple[str, ...] = (),
    wait: bool = True,
) -> Iterator[RunningPlatform]:
    """Run a platform on a free port until the context ends.

    Args:
        command: What starts a worker; none: the platform has no workers of its own.
        folder: Where the workers run.
        env: Variables on top of this process's; without COMFYUI_PATH and COMFY_HOST each worker
            is told to use a local_comfyui of its own.
        worker_env: Makes more variables for a worker, given its own temporary folder.
        workers: How many.
        limits: Sizes, waits, retention.
        api_keys: Keys that clients must show.
        wait: Whether to wait until all workers are ready.
    """
    lines: list[str] = []
    shared_env = worker_environment(ROOT, {**os.environ, **(env or {})})

    def environment(own_folder: Path) -> dict[str, str]:
        more = worker_env(own_folder) if worker_env else {}
        return {**shared_env(own_folder), **more}

    settings = PlatformSettings(
        plan=WorkerPlan(
            command=command,
            folder=folder,
            environment=environment,
            output=lambda name, line: lines.append(f"{name} | {line}"),
        ),
        workers=workers if command else 0,
        api_keys=api_keys,
        limits=limits,
    )
    with running_background_platform(settings) as background:
        platform = RunningPlatform(background, lines)
        if wait and command:
            _wait_until_ready(platform, workers)
        yield platform


def without_retries(limits: Limits = FAST) -> Limits:
    """The same limits, but a lost job fails at once."""
    return replace(limits, automatic_retries=0)


def _wait_until_ready(platform: RunningPlatform, workers: int) -> None:
    platform.background.until_ready()
    deadline = time.monotonic() + 60
    while platform.health()["workers"]["ready"] < workers:
        assert time.monotonic() < deadline, platform.log()
        time.sleep(0.05)
