from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker_comfyui.comfyui import launch

PRINT = [sys.executable, "-c", "import os, sys; print(os.getpid(), sys.argv)", "a b", "--c"]


def launched(parent: int, *command: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-I", "-S", launch.__file__, str(parent), *command]
    return subprocess.run(line, capture_output=True, text=True, timeout=30, check=False)


def test_the_command_takes_the_launcher_s_place_with_its_arguments_as_they_are() -> None:
    line = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *PRINT]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        out, _ = process.communicate(timeout=30)
    assert out.strip() == f"{process.pid} ['-c', 'a b', '--c']"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such signal")
def test_nothing_runs_when_the_parent_is_gone_already() -> None:
    done = launched(1 if os.getpid() != 1 else 2, *PRINT)
    assert done.returncode == 1
    assert done.stdout == ""


def test_the_exit_code_is_the_command_s() -> None:
    assert launched(os.getpid(), sys.executable, "-c", "raise SystemExit(7)").returncode == 7


def test_a_command_that_cannot_be_run_is_named() -> None:
    done = launched(os.getpid(), "/nowhere/python")
    assert done.returncode == 1
    assert done.stderr == "/nowhere/python cannot be run: No such file or directory\n"


def test_importing_the_launcher_does_nothing() -> None:
    program = "import worker_comfyui.comfyui.launch; print('still here')"
    src = str(Path(launch.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": src},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "still here\n"
