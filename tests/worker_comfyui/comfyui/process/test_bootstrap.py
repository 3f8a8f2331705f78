"""How ComfyUI's main program is run, with programs in its place."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from worker_comfyui.comfyui.process import bootstrap

EXECUTOR = """
import threading, time, sys, asyncio

def prompt_worker():
    {deed}

def serve():
    threading.Thread(target=prompt_worker, daemon=True).start()
    time.sleep(30)

if __name__ == "__main__":
    serve()
"""


def run(
    main: str, folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program as ComfyUI's `main.py`."""
    path = folder / "main.py"
    path.write_text(textwrap.dedent(main))
    return subprocess.run(
        [sys.executable, bootstrap.__file__, str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def test_the_program_runs_as_if_python_had_been_called_with_it(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("NAME = 'beside main.py'")
    program = "import sys, beside; print(__name__, sys.argv, beside.NAME, sys.path[0])"
    done = run(program, tmp_path, "--port", "1")
    main = str(tmp_path / "main.py")
    assert done.stdout == f"__main__ {[main, '--port', '1']} beside main.py {tmp_path}\n"


def test_no_module_of_the_worker_s_is_in_the_way(tmp_path: Path) -> None:
    program = """
        for name in ("client", "command", "events", "process", "worker_comfyui"):
            try:
                __import__(name)
            except ImportError:
                print(name)
    """
    done = run(program, tmp_path, PYTHONPATH="")
    assert done.stdout.split() == ["client", "command", "events", "process", "worker_comfyui"]


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_is_the_program_s(tmp_path: Path, code: int) -> None:
    assert run(f"raise SystemExit({code})", tmp_path).returncode == code


def test_its_classes_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    program = """
        import multiprocessing

        def double(number):
            return 2 * number

        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(double, [1, 2]))
    """
    assert run(program, tmp_path).stdout == "[2, 4]\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_is_printed_is_there_at_once_also_where_streams_are_wrapped_anew(
    tmp_path: Path, unbuffered: str
) -> None:
    program = """
        import io, os, sys

        class Interceptor(io.TextIOWrapper):
            def __init__(self, stream):
                super().__init__(
                    stream.buffer, encoding="utf-8", line_buffering=stream.line_buffering
                )

        sys.stdout, sys.stderr = Interceptor(sys.stdout), Interceptor(sys.stderr)
        print("out")
        print("err", file=sys.stderr)
        os._exit(1)
    """
    done = run(program, tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("sys.exit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt: "),
        ("raise asyncio.CancelledError('by a node')", "CancelledError: by a node"),
        ("raise RuntimeError('\\ud83d')", "RuntimeError: \\ud83d"),
        ("time.sleep(1); 1 / 0", "ZeroDivisionError: division by zero"),
        ("time.sleep(1)", "no reason is known"),
    ],
)
def test_the_program_ends_with_its_executor_and_says_why(
    tmp_path: Path, deed: str, reason: str
) -> None:
    done = run(EXECUTOR.format(deed=deed), tmp_path)
    assert done.returncode == bootstrap.EXECUTOR_ENDED
    assert done.stderr.splitlines()[-1] == f"{bootstrap.SIGN}{reason}"
    assert ("Traceback" in done.stderr) is (reason != "no reason is known")


def test_other_threads_may_end_as_they_like(tmp_path: Path) -> None:
    program = """
        import threading, time
        threading.Thread(target=lambda: 1 / 0).start()
        threading.Thread(target=lambda: exit(1)).start()
        time.sleep(1)
        print("still here")
    """
    done = run(program, tmp_path)
    assert done.returncode == 0
    assert done.stdout == "still here\n"
    assert done.stderr.count("Traceback") == 1


def test_the_end_of_the_program_is_not_the_executor_s(tmp_path: Path) -> None:
    done = run(EXECUTOR.format(deed="time.sleep(60)").replace("30", "0.5"), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
