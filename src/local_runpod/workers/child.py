"""Runs a program that ends with its parent, even if that is killed: `python child.py PROGRAM...`.

The kernel's promise (prctl, Linux only) outlives `exec`. Without it, workers would go on asking
a platform that is gone, thousands of times a second.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the program that the arguments name."""
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        # Not SIGKILL: the worker has a ComfyUI to end.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before the kernel knew
            sys.exit(1)
    try:
        os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  # nosec B606  # the platform's own choice of program
    except OSError as error:
        sys.exit(f"Cannot start {sys.argv[2]}: {error.strerror}")


if __name__ == "__main__":
    main()
