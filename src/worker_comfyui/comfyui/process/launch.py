"""Runs a command, and ends all that came of it: `launch.py PARENT_PID COMMAND...`.

It stays the command's parent. What a node starts may leave ComfyUI's process group (`setsid`) and
its own parent; on Linux such orphans become children of this program, which ends them when the
command ends, when it is told to (STOP), and when the worker dies, however that happens.

A separate program rather than `preexec_fn`, which is unsafe in a process with threads. Elsewhere
than on Linux the command simply runs.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

STOP = signal.SIGUSR1
"""Ends everything at once."""
KILL_S = 5.0
"""A process in the kernel's hands (a network drive that hangs) cannot be waited for."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _start(command: list[str]) -> int:
    """Start the command; return its process id."""
    keeper = os.getpid()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {STOP})
    child = os.fork()
    if child:
        # Handlers, not SIG_IGN: what is ignored stays ignored in the command.
        signal.signal(STOP, lambda *_: _kill(child))
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return child
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:  # it was gone before the call
        os._exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606  # nosec B606  # the worker's own command, no shell
    except OSError as error:
        os.write(2, f"{command[0]} cannot be run: {error.strerror}\n".encode())
        os._exit(1)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _wait(child: int) -> int:
    """Wait for the command's end, and for orphans meanwhile; return its exit code."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def _children() -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:  # it has just ended
            continue
        if int(parent) == os.getpid():
            found.append(int(entry.name))
    return found


def _end_the_rest() -> None:
    """Kill what is left. The children of what is killed become children of this process."""
    give_up_at = time.monotonic() + KILL_S
    while time.monotonic() < give_up_at:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        for pid in _children():
            _kill(pid)
        time.sleep(0.005)


def _end_as(code: int) -> None:
    """End as the command did, also by the same signal."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one core file is enough
        if -code not in {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # they are for the command
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, STOP)
    if sys.platform == "linux" and os.getppid() != int(sys.argv[1]):
        sys.exit(1)  # the parent was gone before the call
    end = _wait(_start(sys.argv[2:]))
    _end_the_rest()
    _end_as(end)
