"""One ComfyUI child process: its start, its log, its end."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from worker_comfyui.comfyui import launch
from worker_comfyui.config import secret_variables

log = logging.getLogger("comfyui")

TAIL_LINES = 40
MAX_LINE_BYTES = 1 << 16
MAX_TAIL_CHARACTERS = 1000
"""Of each line: the tail becomes part of an error."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""ComfyUI colours its log since 0.23, whether or not a terminal reads it."""


class ComfyProcess:
    """A running ComfyUI, in a process group of its own. It dies when the worker does.

    Start it from a thread that lives as long as it should: Linux ends the child with its thread.
    """

    def __init__(self, command: Sequence[str], *, cwd: Path) -> None:
        """Start the command. One that cannot be run ends at once, and its log says why.

        Raises:
            OSError: the folder is not there.
        """
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        # Custom nodes are other people's code: the worker's secrets are not for them.
        launcher = ["env", *(word for name in secret_variables() for word in ("-u", name))]
        # -I and -S: no user settings and no site-packages are needed to call prctl and exec.
        launcher += [sys.executable, "-I", "-S", launch.__file__, str(os.getpid())]
        self._process = subprocess.Popen(  # noqa: S603  # the operator's own command line
            [*launcher, *command],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if self._process.stdout is None:
            raise AssertionError("stdout is a pipe")
        self._reader = threading.Thread(
            target=self._relay, args=(self._process.stdout,), name="comfyui-log", daemon=True
        )
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id, which is also its group's."""
        return self._process.pid

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the end; return the exit code (negative: a signal), or None if it still runs."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def last_lines(self) -> list[str]:
        """Return the end of the log. Once the process is gone, all that it wrote is in it."""
        if self._process.poll() is not None:
            self._reader.join(timeout=1)
        return list(self._tail)

    def stop(self, *, grace_s: float) -> None:
        """End the process and its children: politely first, after `grace_s` by force."""
        if grace_s > 0 and self._process.poll() is None:
            self._signal(signal.SIGTERM)
            self.wait(grace_s)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._reader.join(timeout=1)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _relay(self, stream: IO[bytes]) -> None:
        """Log each line. Of a progress bar, which redraws itself, the last state is enough."""
        with stream:
            while line := stream.readline(MAX_LINE_BYTES):
                text = line.decode("utf-8", "replace").rstrip()
                text = _COLOURS.sub("", text.rpartition("\r")[2]).rstrip()
                if text:
                    self._tail.append(text[:MAX_TAIL_CHARACTERS])
                    log.info(text)
