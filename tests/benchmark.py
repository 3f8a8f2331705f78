"""Measures what the worker itself costs, on this machine: `./scripts/benchmark`.

ComfyUI's work is a node that sleeps, so all figures are the worker's, the SDK's and the platform's.
The same is measured on ComfyUI alone, in the same run: what counts is what the worker adds to it.
COMFYUI_PATH (and COMFYUI_PYTHON, its interpreter) name a real ComfyUI, which runs on the CPU;
without them it is the stand-in. Absolute times depend on the machine and on what else it does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

from local_runpod.jobs.job import Job
from tests import benchmark_downloads, benchmark_preload
from tests.support.comfyui import FAULT_NODES, REAL_COMFYUI, ComfyUI, running_comfyui
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
    parser.add_argument("--only", help="only the parts whose title has this in it")
    parser.add_argument("--folder", help="on the disk to measure (the temporary folder)")
    add = parser.add_argument_group("models, whose parts take the longest").add_argument
    add("--model-gb", type=float, default=4.0, help="of the model to preload (%(default)s)")
    add("--disk-mb-s", type=int, default=200, help="of the disk that it is on (%(default)s)")
    add("--download-gb", type=float, default=2.0, help="of the file to download (%(default)s)")
    add("--peers", help="a Python that has hf_transfer and huggingface_hub, to compare with")
    options = parser.parse_args()
    say(f"ComfyUI: {REAL_COMFYUI or 'the stand-in, src/local_comfyui'}")
    with tempfile.TemporaryDirectory(prefix="worker-benchmark-", dir=options.folder) as folder:
        base = Path(folder)
        parts = [
            part("Start", lambda: start(base)),
            part(
                f"{options.jobs} jobs of {options.seconds:g} s in a row",
                lambda: jobs_in_a_row(base, options.jobs, options.seconds),
            ),
            part("Memory, inline", lambda: memory(base / "inline", options.megabytes)),
            part("Memory, bucket", lambda: memory(base / "s3", options.megabytes, bucket=True)),
            part(
                "Reading a model early",
                lambda: benchmark_preload.measure(
                    base / "preload", options.model_gb, options.disk_mb_s
                ),
            ),
            part(
                "Fetching a model",
                lambda: benchmark_downloads.measure(
                    base / "downloads", options.download_gb, options.peers
                ),
            ),
        ]
        chosen = [p for p in parts if not options.only or options.only.lower() in p[0].lower()]
        for number, (title, measure) in enumerate(chosen, 1):
            say(f"[{number}/{len(chosen)}] {title} ...")
            for line in measure():
                say(f"      {line}")


def part(title: str, measure: Callable[[], list[str]]) -> tuple[str, Callable[[], list[str]]]:
    """One part of the benchmark: its title, and what gives its lines."""
    return title, measure


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def start(base: Path) -> list[str]:
    """Split the time from the start of the process to the first job; compare it to ComfyUI's."""
    began = time.monotonic()
    with running_comfyui(base / "alone", NODES):
        alone = time.monotonic() - began
    with ExitStack() as stack:
        platform = stack.enter_context(running_platform())
        job_id = platform.run({"workflow": sleeping(0)})
        before = time.time()
        handler = start_worker(stack, platform, base / "started")
        platform.wait(job_id, 120)
        taken = (job_of(platform, job_id).started_at or 0) - handler.started_at
        spawned = moment(handler, "message", "starting ComfyUI") - before
        ready = moment(handler, "event", "comfyui_ready") - before
    parts = {
        "ComfyUI alone: start → ready": alone,
        "worker: start → ComfyUI spawned": spawned,
        "        ComfyUI spawned → ready": ready - spawned,
        "        ready → first job taken": taken - ready,
    }
    lines = [f"{name:<32} {took:6.2f} s" for name, took in parts.items()]
    return [*lines, f"{'the worker adds':<32} {taken - alone:+6.2f} s"]


def jobs_in_a_row(base: Path, count: int, seconds: float) -> list[str]:
    """Run equal jobs that all wait already: in ComfyUI's own queue, then through the worker."""
    with running_comfyui(base / "queue", NODES) as comfyui:
        bare_s = in_comfyuis_queue(comfyui, count, seconds)
    lines = [row("ComfyUI's own queue", bare_s, seconds)]
    for concurrency in (1, 2):
        whole_s, own_s = through_the_worker(base / f"by-{concurrency}", count, seconds, concurrency)
        line = row(f"worker, WORKER_CONCURRENCY={concurrency}", whole_s, seconds)
        lines.append(f"{line}   {(whole_s - bare_s) * 1000:+6.1f} ms over ComfyUI's own queue")
        if concurrency == 1:
            share = (own_s - seconds) / own_s
            lines.append(
                f"  of it in the worker {own_s * 1000:24.1f} ms, {share:.1%} not ComfyUI's"
            )
    return lines


def row(name: str, each_s: float, busy_s: float) -> str:
    """A line of the table of jobs in a row."""
    return f"{name:<28} {each_s * 1000:8.1f} ms a job, ComfyUI busy {busy_s / each_s:6.1%}"


def in_comfyuis_queue(comfyui: ComfyUI, count: int, seconds: float) -> float:
    """Seconds from the end of a prompt to the end of the next."""
    comfyui.run(sleeping(0))
    ids = [comfyui.submit(sleeping(seconds)) for _ in range(count)]
    entries = [comfyui.wait(prompt_id, 60 + count * (seconds + 5)) for prompt_id in ids]
    return between([timestamp(entry, "execution_success") for entry in entries])


def between(moments: Sequence[float]) -> float:
    """The mean of the middle half.

    What the machine does beside disturbs it as little as a median, and it is finer than the whole
    milliseconds of ComfyUI's timestamps.
    """
    seconds = sorted(later - earlier for earlier, later in pairwise(sorted(moments)))
    quarter = len(seconds) // 4
    return mean(seconds[quarter : len(seconds) - quarter])


def timestamp(entry: dict[str, Any], event: str) -> float:
    """When an event of a history entry was, in seconds."""
    messages = dict(entry["status"]["messages"])
    return float(messages[event]["timestamp"]) / 1000


def through_the_worker(
    base: Path, count: int, seconds: float, concurrency: int
) -> tuple[float, float]:
    """Seconds from the end of a job to the end of the next, and from a job's start to its end."""
    with ExitStack() as stack:
        platform = stack.enter_context(running_platform())
        handler = start_worker(stack, platform, base, WORKER_CONCURRENCY=str(concurrency))
        handler.wait_until(lambda: platform.health()["workers"]["ready"] == 1, 120)
        platform.run_sync({"workflow": sleeping(0)})
        ids = [platform.run({"workflow": sleeping(seconds)}) for _ in range(count)]
        for job_id in ids:
            assert platform.wait(job_id, 60 + count * (seconds + 5))["status"] == "COMPLETED"
        jobs = [job_of(platform, job_id) for job_id in ids]
    in_hand = median((job.ended_at or 0) - (job.started_at or 0) for job in jobs)
    return between([job.ended_at or 0 for job in jobs]), in_hand


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
    of = ("file", size) if bucket else ("result", job.result_size)
    return [
        f"file {size / MEGA:.0f} MB, result {job.result_size / MEGA:.1f} MB",
        f"peak memory +{grown / MEGA:.0f} MB: {grown / of[1]:.2f} times the {of[0]}",
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
