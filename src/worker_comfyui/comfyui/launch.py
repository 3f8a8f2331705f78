"""Runs a command that dies with the process that started it: `launch.py PARENT_PID COMMAND...`.

A separate program rather than `preexec_fn`, which is unsafe in a process with threads. Linux only;
elsewhere the command simply runs.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(sys.argv[1]):  # the parent was gone before the call
            sys.exit(1)
    try:
        os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  # the worker's own command, no shell
    except OSError as error:
        sys.exit(f"{sys.argv[2]} cannot be run: {error.strerror}")
