"""Runs ComfyUI's `main.py` in ComfyUI's own interpreter: `bootstrap.py MAIN_PY FLAGS...`.

It adds two things that ComfyUI has no flag for:

- What nodes print is in the log when they print it. ComfyUI wraps its streams anew, with the
  line buffering of those that it finds, and a pipe has none, `-u` or not (app/logger.py).
- ComfyUI ends when its executor ends. A node that raises SystemExit, say, ends the one thread that
  runs prompts (main.py, `prompt_worker`), while HTTP goes on answering for ever.

It runs on every Python that ComfyUI runs on, and imports nothing of the worker's.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

EXECUTOR_ENDED = 86
"""The exit code."""
SIGN = "ComfyUI's executor ended: "
"""Begins the last line of the log."""


class _Executor:
    """Watches the thread that runs prompts."""

    def __init__(self) -> None:
        self._reason = "no reason is known"
        self._others = threading.excepthook
        threading.excepthook = self._note
        self._start_thread = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            self._start(thread)

        # No thread of ours runs before that one, while ComfyUI imports packages and starts CUDA.
        threading.Thread.start = start  # type: ignore[assignment, method-assign]

    @staticmethod
    def _is_meant(thread: threading.Thread | None) -> bool:
        # Python names a thread after its function: `Thread-3 (prompt_worker)`.
        return thread is not None and "prompt_worker" in thread.name.replace("-", "_")

    def _start(self, thread: threading.Thread) -> None:
        """Start a thread, and if it is the one that is meant, another one that waits for its end.

        A daemon thread has none when the interpreter shuts down.
        """
        self._start_thread(thread)
        if self._is_meant(thread):
            watch = threading.Thread(
                target=self._watch, args=(thread,), name="executor-watch", daemon=True
            )
            self._start_thread(watch)

    def _note(self, ended: threading.ExceptHookArgs) -> None:
        if not self._is_meant(ended.thread) or ended.exc_value is None:
            self._others(ended)
            return
        lines = traceback.format_exception(ended.exc_type, ended.exc_value, ended.exc_traceback)
        self._reason = f"{ended.exc_type.__name__}: {ended.exc_value}"
        _print("".join(lines))

    def _watch(self, executor: threading.Thread) -> None:
        executor.join()
        _print(f"\n{SIGN}{self._reason}\n")
        os._exit(EXECUTOR_ENDED)


def _print(text: str) -> None:
    """Print past ComfyUI's streams: they refuse a lone surrogate, which may be what it died of."""
    os.write(2, text.encode("utf-8", "backslashreplace"))


def _main() -> None:
    for stream in (sys.stdout, sys.stderr):
        options: dict[str, Any] = {"line_buffering": True}
        stream.reconfigure(**options)  # type: ignore[union-attr]
    sys.argv = sys.argv[1:]
    # As if `python main.py` had been called: beside this file are modules of other names' sake.
    sys.path[0] = str(Path(sys.argv[0]).parent)
    _Executor()
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    _main()
