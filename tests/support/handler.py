"""The real worker as a process: `handler.py` in production mode, on a platform of the test's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.comfyui import FAULT_NODES, REAL_COMFYUI, prepare_base
from tests.support.platform import ROOT, RunningPlatform, running_platform
from tests.support.worker import worker_environment
from worker_comfyui.comfyui.process.command import Folders

START_S = 120 if REAL_COMFYUI else 40
NOT_INHERITED = ("COMFY", "BUCKET_", "RUNPOD_", "PYTHONPATH", "SERVE_API_LOCALLY")


@dataclass
class Handler:
    """A running `handler.py`, or what is left of it.

    Attributes:
        process: Its process, which leads a group of its own.
        base: The base directory of its ComfyUI.
        started_at: `time.monotonic()` just before its start.
        log_path: What it has printed.
    """

    process: subprocess.Popen[bytes]
    base: Path
    started_at: float
    log_path: Path

    def log(self) -> str:
        """All that it has printed, ComfyUI's own lines too."""
        return self.log_path.read_text(errors="replace")

    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines of its log."""
        found = []
        for line in self.log().splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
        return [line for line in found if isinstance(line, dict)]

    def events(self) -> list[str]:
        """The `event` of each line that has one."""
        return [line["event"] for line in self.lines() if "event" in line]

    def signal(self, number: int) -> None:
        """Signal the main process only, as the platform does."""
        self.process.send_signal(number)

    def wait(self, seconds: float = START_S) -> int:
        """Wait for its end; return the exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it still runs after {seconds} s\n{self.log()}") from None

    def wait_for_event(self, event: str, seconds: float = START_S) -> None:
        """Wait until a line with this event is in its log."""
        self.wait_until(lambda: event in self.events(), seconds)

    def wait_until(self, condition: Callable[[], object], seconds: float = START_S) -> None:
        """Wait until a condition holds while the worker runs."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"it did not happen in {seconds} s\n{self.log()}"
            assert self.process.poll() is None, f"the worker ended\n{self.log()}"
            time.sleep(0.01)

    def comfyui_url(self) -> str:
        """The address of its ComfyUI, from the line that says how it was started last."""
        command = [line["command"] for line in self.lines() if "command" in line][-1]
        return f"http://127.0.0.1:{command[command.index('--port') + 1]}"

    def comfyui_pids(self) -> list[int]:
        """The ComfyUI processes that use this worker's base directory."""
        return pids_with(str(self.base))


def comfyui_folders(base: Path) -> Folders:
    """The folders that the ComfyUI with this base directory was started with."""
    for pid in pids_with(str(base)):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            return Folders.of(base, words)
    raise AssertionError("no ComfyUI runs")


def pids_with(word: str) -> list[int]:
    """Processes, other than this one, with this word on their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if word in words and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def handler_environment(base: Path, **variables: str) -> dict[str, str]:
    """The environment of a handler without a platform."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(NOT_INHERITED)}
    return {
        **inherited,
        **worker_environment(base),
        "LOG_FORMAT": "json",
        "PYTHONUNBUFFERED": "1",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        **variables,
    }


def on_platform(platform: RunningPlatform, worker_id: str = "worker-under-test") -> dict[str, str]:
    """The variables by which a platform makes a process its worker."""
    url = platform.control_url
    return {
        "RUNPOD_WEBHOOK_GET_JOB": f"{url}/job-take/$ID?gpu=local",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{url}/job-done/$RUNPOD_POD_ID/$ID?gpu=local",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{url}/job-stream/$RUNPOD_POD_ID/$ID?gpu=local",
        "RUNPOD_WEBHOOK_PING": f"{url}/ping/$RUNPOD_POD_ID?gpu=local",
        "RUNPOD_PING_INTERVAL": "1000",
        "RUNPOD_AI_API_KEY": "platform-key-of-the-worker",
        "RUNPOD_POD_ID": worker_id,
        "RUNPOD_ENDPOINT_ID": "local",
    }


@contextmanager
def running_handler(
    base: Path,
    environment: Mapping[str, str],
    *,
    arguments: Sequence[str] = (),
    extra_nodes: Sequence[Path] = (FAULT_NODES,),
) -> Iterator[Handler]:
    """Run `handler.py` until the block ends; then nothing of it is left."""
    prepare_base(base, extra_nodes)
    log_path = base / "handler.log"
    with log_path.open("wb") as log:
        started_at = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "handler.py"), *arguments],
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Handler(process, base, started_at, log_path)
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
        with suppress(ProcessLookupError):  # the SDK's ping process outlives a killed worker
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def running_endpoint(
    base: Path, *, extra_nodes: Sequence[Path] = (FAULT_NODES,), **variables: str
) -> Iterator[tuple[RunningPlatform, Handler]]:
    """Run a platform and one worker of which the test holds the process; wait until it is ready."""
    with running_platform() as platform:
        environment = handler_environment(base, **on_platform(platform), **variables)
        with running_handler(base, environment, extra_nodes=extra_nodes) as handler:
            handler.wait_until(lambda: platform.health()["workers"]["ready"] == 1)
            yield platform, handler


@dataclass(frozen=True)
class Post:
    """What a worker posted to job-done, whole and not too large."""

    job_id: str
    body: dict[str, Any]

    @property
    def is_progress(self) -> bool:
        """Whether it is progress, not a result."""
        return self.body.get("status") == "IN_PROGRESS"


def recorded_posts(platform: RunningPlatform) -> list[Post]:
    """Note all posts from now on, in the order in which the platform took them."""
    posts: list[Post] = []
    control_plane = platform.background.platform.control_plane
    read_result = control_plane._read_result

    async def record(request: web.Request, job_id: str) -> tuple[dict[str, Any], int]:
        result, size = await read_result(request, job_id)
        posts.append(Post(job_id, result))
        return result, size

    control_plane._read_result = record  # type: ignore[method-assign]
    return posts
