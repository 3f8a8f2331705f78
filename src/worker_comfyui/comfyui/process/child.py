"""One ComfyUI child process: its start, its log, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from worker_comfyui.comfyui.process import launch
from worker_comfyui.comfyui.process.process_log import ProcessLog

KEEPER_S = launch.KILL_S + 2.0


class ComfyProcess:
    """A running ComfyUI, with all that it starts. None of it outlives the worker.

    Start it from a thread that lives as long as it should: Linux ends it with its thread.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        on_error: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Start the command. One that cannot be run ends at once, and its log says why.

        Args:
            command: The program and its arguments.
            cwd: Its folder.
            environment: Its variables; None: the worker's own.
            on_error: Called, in another thread, with each error that it logs.

        Raises:
            OSError: the folder is not there.
        """
        # -I and -S: no user settings and no site-packages are needed to call prctl and exec.
        launcher = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid())]
        self._keeper = subprocess.Popen(  # noqa: S603  # nosec B603  # the operator's own command line
            [*launcher, *command],
            cwd=cwd,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if self._keeper.stdout is None:
            raise AssertionError("stdout is a pipe")
        self.log = ProcessLog(self._keeper.stdout, on_error)

    @property
    def session(self) -> int:
        """The session of ComfyUI, and its process group; its leader is the launcher."""
        return self._keeper.pid

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the end; return the exit code (negative: a signal), or None if it still runs."""
        try:
            return self._keeper.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def last_lines(self) -> list[str]:
        """Return the end of the log. Once the process is gone, all that it wrote is in it."""
        if self._keeper.poll() is not None:
            self.log.join(1)
        return self.log.tail()

    def stop(self, *, grace_s: float) -> None:
        """End the process and all that it started: politely first, after `grace_s` by force."""
        if grace_s > 0 and self._keeper.poll() is None:
            self._signal_group(signal.SIGTERM)
            self.wait(grace_s)
        if self._keeper.poll() is None:
            self._keeper.send_signal(signal.SIGCONT)  # somebody may have stopped it
            self._keeper.send_signal(launch.STOP)
            if self.wait(KEEPER_S) is None:
                self._signal_group(signal.SIGKILL)
                self._keeper.wait()
        self.log.join(1)

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._keeper.pid, number)
