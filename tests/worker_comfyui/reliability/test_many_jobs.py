"""Five hundred jobs in a row: nothing grows with their number."""

from __future__ import annotations

import gc
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.comfyui import REAL_COMFYUI
from tests.support.worker import WorkerUnderTest, running_worker, worker_is_clean
from tests.support.workflows import color_of, input_image, node, saved_image, saved_input

JOBS = 500
FIRST = 100
"""Jobs before the first look: by then all caches and pools are as large as they get."""
GROWTH_MB = 8.0
"""Memory that each process may grow by from then on."""


@dataclass(frozen=True)
class Usage:
    """What is in use, here and in ComfyUI."""

    threads: int
    descriptors: int
    megabytes: float
    comfyui_threads: int
    comfyui_descriptors: int
    comfyui_megabytes: float


def usage(worker: WorkerUnderTest) -> Usage:
    gc.collect()
    _, descriptors, megabytes = _process("self")
    return Usage(threading.active_count(), descriptors, megabytes, *_process(worker.comfyui_pid()))


def _process(pid: int | str) -> tuple[int, int, float]:
    """Threads, open descriptors and resident megabytes of a process."""
    folder = Path("/proc") / str(pid)
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    descriptors = len(list((folder / "fd").iterdir()))
    return int(status["Threads"]), descriptors, int(status["VmRSS"].split()[0]) / 1000


def run_one(worker: WorkerUnderTest, number: int) -> None:
    """A small job, of a different kind each time."""
    kind = number % 5
    if kind == 0:
        color = (number % 256, number // 256, 77)
        images = [input_image("photo.png", color)]
        result = worker.run({"workflow": saved_input("photo.png"), "images": images})
        assert color_of(result["images"][0]) == color
    elif kind == 1:
        result = worker.run({"workflow": {"1": node("NoSuchNode")}})
        assert result["error_code"] == "PROMPT_REJECTED"
    elif kind == 2:
        result = worker.run({"workflow": {"1": node("TestFail", message="no")}})
        assert result["error_code"] == "EXECUTION_FAILED"
    elif kind == 3:
        job = worker.start({"workflow": {"1": node("TestSleepOutput", seconds=5)}})
        time.sleep(0.01)
        job.cancel()
        assert job.was_cancelled()
    else:
        result = worker.run({"workflow": saved_image(number)})
        assert color_of(result["images"][0]) == (0, number >> 8, number & 255)


@pytest.mark.timeout(400 if REAL_COMFYUI else 120)
def test_five_hundred_jobs_leave_no_trace(tmp_path: Path) -> None:
    with running_worker(tmp_path) as worker:
        for number in range(FIRST):
            run_one(worker, number)
        before = usage(worker)
        for number in range(FIRST, JOBS):
            run_one(worker, number)
        after = usage(worker)

        assert worker_is_clean(worker)
        assert worker.scratch() == []
        assert after.threads <= before.threads + 1  # the test's own pool of threads
        assert after.descriptors <= before.descriptors + 2  # connections to ComfyUI are kept
        assert after.comfyui_threads <= before.comfyui_threads + 1
        assert after.comfyui_descriptors <= before.comfyui_descriptors + 1
        assert after.megabytes - before.megabytes < GROWTH_MB
        assert after.comfyui_megabytes - before.comfyui_megabytes < GROWTH_MB
