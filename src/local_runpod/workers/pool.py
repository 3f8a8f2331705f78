"""The worker processes: started, watched, replaced, ended, each with a temporary folder."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local_runpod.jobs.job_queue import JobQueue
from local_runpod.workers.folder import platform_folder
from local_runpod.workers.registry import Registry

log = logging.getLogger(__name__)

TAIL_LINES = 40
STOP_GRACE_S = 5.0
BACK_OFF_S = (0.5, 2.0, 5.0, 15.0)
# Time for a signal to be handled before the poll that it must not follow is answered.
SIGNAL_S = 0.3
READ_SIZE = 65536


@dataclass(frozen=True, kw_only=True)
class WorkerPlan:
    """How to start a worker.

    Args:
        command: The program with its arguments.
        folder: Where it runs.
        environment: Makes the whole environment, given the worker's own temporary folder, which
            is removed when the worker has ended.
        output: Called with worker name and line, for each line that the worker prints.
    """

    command: Sequence[str]
    folder: Path
    environment: Callable[[Path], Mapping[str, str]]
    output: Callable[[str, str], None] = lambda _name, _line: None


@dataclass(kw_only=True, eq=False)
class WorkerProcess:
    """One process that runs."""

    id: str
    process: asyncio.subprocess.Process
    output: asyncio.StreamReader
    pipe: asyncio.BaseTransport  # below `output`
    folder: Path

    def signal(self, number: int) -> None:
        """Signal the worker's main process only: what it started, it ends itself."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self) -> None:
        """End the whole process group: the SDK's ping process outlives its parent's SIGKILL."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)


class WorkerPool:
    """Keeps `count` workers running.

    Args:
        plan: How to start one.
        count: How many.
        control_plane: Gives a worker its addresses: environment by worker id.
        queue: Gets back the jobs of a worker that ended.
        registry: Knows the workers while they run.
    """

    def __init__(
        self,
        plan: WorkerPlan,
        count: int,
        *,
        control_plane: Callable[[str], Mapping[str, str]],
        queue: JobQueue,
        registry: Registry,
    ) -> None:
        self._plan = plan
        self._count = count
        self._control_plane = control_plane
        self._queue = queue
        self._registry = registry
        self._folders = contextlib.ExitStack()
        self._slots: list[asyncio.Task[None]] = []
        self._retiring: set[asyncio.Task[None]] = set()
        self.running: dict[str, WorkerProcess] = {}
        self.failed_starts = 0  # in a row
        self.tail: deque[str] = deque(
            maxlen=TAIL_LINES
        )  # of the newest worker that failed to start

    async def start(self) -> None:
        """Start the workers; they become ready later."""
        folder = self._folders.enter_context(platform_folder())
        for number in range(1, self._count + 1):
            self._slots.append(asyncio.create_task(self._keep_running(f"worker-{number}", folder)))

    async def stop(self) -> None:
        """End all workers and everything they started."""
        tasks = [*self._slots, *self._retiring]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._folders.close()

    def replace(self, worker_id: str) -> None:
        """End a worker once its jobs are done, and start another in its place."""
        if worker := self.running.get(worker_id):
            self._registry.drain(worker_id)
            task = asyncio.create_task(self._retire(worker))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    def kill(self, worker_id: str) -> bool:
        """End a worker at once; another takes its place.

        Returns:
            Whether it is one of these workers.
        """
        worker = self.running.get(worker_id)
        if worker is not None:
            worker.kill()
        return worker is not None

    async def _keep_running(self, name: str, folder: Path) -> None:
        """Run one worker after another."""
        failures = 0
        while True:
            was_ready = await self._run_one(name, folder)
            failures = 0 if was_ready else failures + 1
            if failures:
                self._registry.unhealthy += 1
                try:
                    await asyncio.sleep(BACK_OFF_S[min(failures, len(BACK_OFF_S)) - 1])
                finally:
                    self._registry.unhealthy -= 1

    async def _run_one(self, name: str, parent: Path) -> bool:
        """Run a worker from start to end.

        Returns:
            Whether it ever asked for jobs.
        """
        with tempfile.TemporaryDirectory(
            prefix=f"{name}-", dir=parent, ignore_cleanup_errors=True
        ) as folder:
            worker = await self._start_one(name, Path(folder))
            tail: deque[str] = deque(maxlen=TAIL_LINES)
            reading = asyncio.create_task(self._read_output(name, worker, tail))
            try:
                code = await worker.process.wait()
            except asyncio.CancelledError:
                await self._end(worker, STOP_GRACE_S)
                raise
            finally:
                worker.kill()
                record = self._registry.get(worker.id)
                was_ready = record is not None and record.ready
                self._registry.remove(worker.id)
                self._queue.release(worker.id)
                del self.running[worker.id]
                # What left the process group may hold the pipe open for ever.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reading, 1)
                worker.pipe.close()
        log.warning("%s ended with %s", name, _describe(code))
        self.failed_starts = 0 if was_ready else self.failed_starts + 1
        if not was_ready:
            self.tail = tail
        return was_ready

    async def _start_one(self, name: str, folder: Path) -> WorkerProcess:
        worker_id = f"{name}-{uuid.uuid4().hex[:8]}"
        environment = {**self._plan.environment(folder), **self._control_plane(worker_id)}
        output, pipe, write_end = await _pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                str(Path(__file__).with_name("child.py")),
                str(os.getpid()),
                *self._plan.command,
                cwd=self._plan.folder,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        worker = WorkerProcess(
            id=worker_id, process=process, output=output, pipe=pipe, folder=folder
        )
        self.running[worker_id] = worker
        self._registry.add(worker_id)
        log.info("%s starts (process %d)", name, process.pid)
        return worker

    async def _retire(self, worker: WorkerProcess) -> None:
        while not await self._registry.news.wait_until(
            lambda: not self._queue.held_by(worker.id), SIGNAL_S
        ):
            pass
        await self._end(worker, STOP_GRACE_S)

    async def _end(self, worker: WorkerProcess, grace_s: float) -> int:
        """Ask the worker to end; kill it when it does not."""
        # First no more jobs, then the signal: the SDK loses a job that comes after it.
        self._registry.drain(worker.id)
        worker.signal(signal.SIGTERM)
        await asyncio.sleep(SIGNAL_S)
        self._registry.release(worker.id)
        try:
            return await asyncio.wait_for(worker.process.wait(), grace_s)
        except TimeoutError:
            log.warning("%s did not end within %g s and is killed", worker.id, grace_s)
            worker.kill()
            return await worker.process.wait()

    async def _read_output(self, name: str, worker: WorkerProcess, tail: deque[str]) -> None:
        rest = b""
        while data := await worker.output.read(READ_SIZE):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._print(name, line, tail)
        if rest:
            self._print(name, rest, tail)

    def _print(self, name: str, line: bytes, tail: deque[str]) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        tail.append(text)
        self._plan.output(name, text)


async def _pipe() -> tuple[asyncio.StreamReader, asyncio.BaseTransport, int]:
    """Make a pipe of our own.

    With asyncio's, a process counts as running until everything that it started has closed it too:
    the SDK's ping process keeps it open after its parent was killed.
    """
    read_end, write_end = os.pipe()
    reader = asyncio.StreamReader()
    transport, _protocol = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb")
    )
    return reader, transport, write_end


def _describe(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
