"""A real worker in the test's process, with a ComfyUI child of its own over real sockets."""

from __future__ import annotations

import os
import shlex
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.support.comfyui import (
    COMFYUI_FLAGS,
    COMFYUI_PATH,
    COMFYUI_PYTHON,
    FAULT_NODES,
    prepare_base,
)
from tests.support.waiting import WAIT_S
from worker_comfyui.comfyui.process.command import Folders
from worker_comfyui.comfyui.process.supervisor import Supervisor
from worker_comfyui.comfyui.tracking import Update
from worker_comfyui.config import Settings
from worker_comfyui.redaction import Redactor
from worker_comfyui.stop import JobCancelled
from worker_comfyui.worker import Worker

Workflow = dict[str, dict[str, Any]]


@dataclass
class RunningJob:
    """A job in its own thread."""

    cancelled: threading.Event
    future: Future[dict[str, Any]]
    updates: list[Update]

    def result(self, seconds: float = WAIT_S) -> dict[str, Any]:
        """Wait for what the handler would return."""
        return self.future.result(seconds)

    def cancel(self) -> None:
        """Cancel it, as the platform does."""
        self.cancelled.set()

    def was_cancelled(self, seconds: float = WAIT_S) -> bool:
        """Wait for its end; tell whether it ended as a cancelled one."""
        return isinstance(self.future.exception(seconds), JobCancelled)


@dataclass
class WorkerUnderTest:
    """A worker and what belongs to it."""

    worker: Worker
    supervisor: Supervisor
    redactor: Redactor
    base: Path
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))

    def start(self, request: dict[str, Any], **job: Any) -> RunningJob:
        """Start a job with this `input`, and return at once."""
        cancelled = threading.Event()
        updates: list[Update] = []
        raw = {"id": f"sync-{uuid.uuid4()}-u1", "input": request, **job}
        future = self._threads.submit(self.worker.run, raw, cancelled.is_set, updates.append)
        return RunningJob(cancelled, future, updates)

    def run(self, request: dict[str, Any], **job: Any) -> dict[str, Any]:
        """Run a job with this `input` to its end."""
        return self.start(request, **job).result()

    def comfyui(self, path: str) -> Any:
        """GET a path of this worker's ComfyUI; returns the JSON."""
        return self.get(path).json()

    def get(self, path: str) -> requests.Response:
        """GET a path of this worker's ComfyUI."""
        incarnation = self.supervisor.wait_ready()
        assert incarnation is not None
        return requests.get(f"http://{incarnation.address}{path}", timeout=10)

    def submit(self, workflow: Workflow, **fields: str) -> str:
        """Queue a prompt in this worker's ComfyUI, past the worker; returns its id."""
        body = {"prompt": workflow, **fields}
        prompt_id: str = self._post("/prompt", body).json()["prompt_id"]
        return prompt_id

    def forget(self, prompt_id: str) -> None:
        """Remove a prompt that was queued by `submit` from ComfyUI's history."""
        self._post("/history", {"delete": [prompt_id]})

    def _post(self, path: str, body: dict[str, Any]) -> requests.Response:
        incarnation = self.supervisor.wait_ready()
        assert incarnation is not None
        return requests.post(f"http://{incarnation.address}{path}", json=body, timeout=10)

    def scratch(self) -> list[str]:
        """The folders that the worker's jobs keep for themselves right now."""
        return [path.name for path in self.supervisor.scratch.iterdir()]

    def comfyui_pid(self) -> int:
        """Find the process of this worker's ComfyUI: the one below its launcher."""
        for launcher in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):
                for process in launcher.children():
                    if str(self.base) in process.cmdline():
                        return process.pid
        raise AssertionError("no ComfyUI runs")

    @property
    def folders(self) -> Folders:
        """The folders of this worker's ComfyUI, of the run that is ready now."""
        incarnation = self.supervisor.wait_ready()
        assert incarnation is not None
        assert incarnation.folders is not None
        return incarnation.folders

    def files(self) -> list[str]:
        """All files in ComfyUI's folders, as `input/name`."""
        folders = self.folders
        return files_in(input=folders.input, output=folders.output, temp=folders.temp)


def files_in(**folders: Path) -> list[str]:
    """All files in these folders, each after its folder's name."""
    return sorted(
        str(name / path.relative_to(folder))
        for name, folder in ((Path(name), folder) for name, folder in folders.items())
        for path in folder.rglob("*")
        if path.is_file()
    )


def worker_is_clean(worker: WorkerUnderTest) -> bool:
    """Tell whether nothing is left of any job: no file, no prompt, no history."""
    try:
        queue, history = worker.comfyui("/queue"), worker.comfyui("/history")
    except requests.RequestException:  # it has much to do, or is being started again
        return False
    return not any((worker.files(), queue["queue_running"], queue["queue_pending"], history))


def worker_environment(base: Path, **variables: str) -> dict[str, str]:
    """Make the environment of a worker whose ComfyUI lives in `base`."""
    flags = ["--base-directory", str(base), *COMFYUI_FLAGS]
    return {
        "COMFYUI_PATH": str(COMFYUI_PATH),
        "COMFYUI_PYTHON": COMFYUI_PYTHON,
        "COMFYUI_ARGS": shlex.join(flags),
        **variables,
    }


@contextmanager
def running_worker(
    base: Path, extra_nodes: Sequence[Path] = (FAULT_NODES,), **variables: str
) -> Iterator[WorkerUnderTest]:
    """Run a worker until the block ends; `variables` are its further environment variables."""
    prepare_base(base, extra_nodes)
    with _running(worker_environment(base, **variables), base) as worker:
        yield worker


@contextmanager
def remote_worker(address: str, base: Path, **variables: str) -> Iterator[WorkerUnderTest]:
    """Run a worker for a ComfyUI that runs already, at `host:port`, until the block ends."""
    with _running({"COMFY_HOST": address, **variables}, base) as worker:
        yield worker


@contextmanager
def _running(environment: dict[str, str], base: Path) -> Iterator[WorkerUnderTest]:
    settings = Settings.from_env(environment)
    supervisor = Supervisor(settings, os.environ)
    supervisor.start()
    try:
        redactor = Redactor(settings.secrets(), linger_s=5)
        worker = Worker(settings, supervisor, redactor)
        supervisor.wait_ready()
        with closing(worker):
            yield WorkerUnderTest(worker, supervisor, redactor, base)
    finally:
        supervisor.stop()


def alive(pid: int) -> bool:
    """Tell whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
