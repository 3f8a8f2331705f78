"""Measures what the worker itself costs, on this machine: `./scripts/benchmark`.

ComfyUI's work is a node that sleeps, so all figures are the worker's, the SDK's and the platform's.
Absolute times depend on the machine; the ratios can be compared between machines and versions.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from local_runpod.jobs.job import Job
from tests.support.comfyui import FAULT_NODES
from tests.support.handler import Handler, handler_environment, on_platform, running_handler
from tests.support.platform import FAST, RunningPlatform, running_platform
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, serving_s3
from tests.support.workflows import node

NODES = (FAULT_NODES, FAULT_NODES.with_name("big_nodes.py"))
BIG_RESULTS = replace(FAST, run_result=1_000_000_000)
MEGA = 1_000_000


def main() -> None:
    """Measure everything, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20, help="jobs in a row (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each job (%(default)s)")
    parser.add_argument("--megabytes", type=int, default=50, help="of the big result (%(default)s)")
    options = parser.parse_args()
    parts: list[tuple[str, Callable[[Path], list[str]]]] = [
        ("Cold start", cold_start),
        (
            "Jobs in a row, WORKER_CONCURRENCY=1",
            lambda base: jobs_in_a_row(base, options.jobs, options.seconds, concurrency=1),
        ),
        (
            "Jobs in a row, WORKER_CONCURRENCY=2",
            lambda base: jobs_in_a_row(base, options.jobs, options.seconds, concurrency=2),
        ),
        ("Memory of the worker, inline", lambda base: memory(base, options.megabytes)),
        ("Memory of the worker, bucket", lambda base: memory(base, options.megabytes, bucket=True)),
    ]
    with tempfile.TemporaryDirectory(prefix="worker-benchmark-") as folder:
        for number, (title, measure) in enumerate(parts, 1):
            say(f"[{number}/{len(parts)}] {title} ...")
            for line in measure(Path(folder) / str(number)):
                say(f"      {line}")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def cold_start(base: Path) -> list[str]:
    """Split the time from the start of the process to the first job."""
    with ExitStack() as stack:
        platform = stack.enter_context(running_platform())
        job_id = platform.run({"workflow": sleeping(0)})
        before = time.time()
        handler = start_worker(stack, platform, base)
        platform.wait(job_id, 120)
        taken = (job_of(platform, job_id).started_at or 0) - handler.started_at
        spawned = moment(handler, "message", "starting ComfyUI") - before
        ready = moment(handler, "event", "comfyui_ready") - before
    parts = {
        "process start → ComfyUI spawned": spawned,
        "ComfyUI spawned → ready": ready - spawned,
        "ComfyUI ready → first job taken": taken - ready,
    }
    return [f"{name:<32} {took:5.2f} s  {took / taken:4.0%}" for name, took in parts.items()]


def jobs_in_a_row(base: Path, count: int, seconds: float, *, concurrency: int) -> list[str]:
    """Run equal jobs that all wait already; tell how busy they keep ComfyUI."""
    with ExitStack() as stack:
        platform = stack.enter_context(running_platform())
        handler = start_worker(stack, platform, base, WORKER_CONCURRENCY=str(concurrency))
        handler.wait_until(lambda: platform.health()["workers"]["ready"] == 1, 120)
        platform.run_sync({"workflow": sleeping(0)})
        ids = [platform.run({"workflow": sleeping(seconds)}) for _ in range(count)]
        for job_id in ids:
            assert platform.wait(job_id, 60 + count * (seconds + 5))["status"] == "COMPLETED"
        jobs = [job_of(platform, job_id) for job_id in ids]
    started = [job.started_at or 0 for job in jobs]
    ended = [job.ended_at or 0 for job in jobs]
    whole = max(ended) - min(started)
    between = (whole - count * seconds) / count
    lines = [
        f"ComfyUI busy            {count * seconds / whole:6.1%}   of {whole:.1f} s",
        f"from job to job         {between * 1000:6.0f} ms  in which ComfyUI does nothing",
    ]
    if concurrency == 1:
        own = sum(e - s for s, e in zip(started, ended, strict=True)) / count
        share = (own - seconds) / own
        lines.append(f"a job in the worker     {own * 1000:6.0f} ms  {share:.0%} not ComfyUI's")
    return lines


def memory(base: Path, megabytes: int, *, bucket: bool = False) -> list[str]:
    """Return one big file; tell how far the worker's memory grew for it."""
    size = megabytes * MEGA
    with ExitStack() as stack:
        variables = {"MAX_RESULT_MB": "1000"}
        if bucket:
            s3 = stack.enter_context(serving_s3(base / "s3"))
            s3.make_bucket("results")
            variables |= {
                "BUCKET_ENDPOINT_URL": s3.url,
                "BUCKET_NAME": "results",
                "BUCKET_ACCESS_KEY_ID": ACCESS_KEY,
                "BUCKET_SECRET_ACCESS_KEY": SECRET_KEY,
            }
        platform = stack.enter_context(running_platform(limits=BIG_RESULTS))
        handler = start_worker(stack, platform, base / "comfyui", **variables)
        handler.wait_until(lambda: platform.health()["workers"]["ready"] == 1, 120)
        small = platform.run({"workflow": big(1000)})
        assert platform.wait(small, 60)["status"] == "COMPLETED"
        before = peak_bytes(handler)
        job_id = platform.run({"workflow": big(size)})
        while not (job := job_of(platform, job_id)).status.is_final:
            time.sleep(0.1)
        assert job.error is None, job.error
        grown = peak_bytes(handler) - before
    return [
        f"file {size / MEGA:.0f} MB, result {job.result_size / MEGA:.1f} MB",
        f"peak memory +{grown / MEGA:.0f} MB: {grown / size:.2f} times the file",
    ]


def start_worker(
    stack: ExitStack, platform: RunningPlatform, base: Path, **variables: str
) -> Handler:
    """Start a worker that ends with the stack."""
    environment = handler_environment(base, **on_platform(platform), **variables)
    return stack.enter_context(running_handler(base, environment, extra_nodes=NODES))


def job_of(platform: RunningPlatform, job_id: str) -> Job:
    """The platform's own record of a job, with its times."""
    return platform.background.platform.queue.get(job_id)


def moment(handler: Handler, field: str, value: str) -> float:
    """When a line of the log was written, as `time.time()`."""
    line = next(line for line in handler.lines() if line.get(field) == value)
    return datetime.fromisoformat(str(line["time"])).timestamp()


def peak_bytes(handler: Handler) -> int:
    """The largest memory that the worker's process has had so far."""
    status = Path(f"/proc/{handler.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def sleeping(seconds: float) -> dict[str, Any]:
    """A workflow that keeps ComfyUI busy for so long."""
    return {"1": node("TestSleepOutput", seconds=seconds)}


def big(size: int) -> dict[str, Any]:
    """A workflow that saves a file of so many bytes."""
    return {"1": node("TestBigFile", size=size, count=1, filename_prefix="big")}


if __name__ == "__main__":
    main()
