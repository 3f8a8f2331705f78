"""The launcher, as a program, with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import is_gone, number_in
from tests.support.waiting import wait_until
from worker_comfyui.comfyui.process import launch

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such call")

ORPHAN = """
import os, subprocess, sys, time
program = "import os, time; open('orphan', 'w').write(f'{os.getpid()}\\\\n'); time.sleep(600)"
subprocess.run(["sh", "-c", f'setsid "{sys.executable}" -c "$1" &', "sh", program], check=True)
while not os.path.exists("orphan") or not open("orphan").read().endswith("\\n"):
    time.sleep(0.01)
"""
"""Starts a program in another session whose parent has ended, and waits for it."""


def line(parent: int, *command: str) -> list[str]:
    return [sys.executable, "-I", "-S", launch.__file__, str(parent), *command]


def launched(parent: int, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        line(parent, *command), capture_output=True, text=True, timeout=30, check=False
    )


@contextmanager
def launching(cwd: Path, program: str) -> Iterator[subprocess.Popen[bytes]]:
    command = line(os.getpid(), sys.executable, "-c", program)
    with subprocess.Popen(command, cwd=cwd, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_command_gets_its_arguments_and_streams_as_they_are() -> None:
    program = "import sys; print(sys.argv); print('to stderr', file=sys.stderr)"
    done = launched(os.getpid(), sys.executable, "-c", program, "a b", "--c")
    assert done.stdout == "['-c', 'a b', '--c']\n"
    assert done.stderr == "to stderr\n"


@linux_only
def test_nothing_runs_when_the_parent_is_gone_already() -> None:
    done = launched(1 if os.getpid() != 1 else 2, sys.executable, "-c", "print('it runs')")
    assert done.returncode == 1
    assert done.stdout == ""


@pytest.mark.parametrize("code", [0, 7, 86])
def test_the_exit_code_is_the_command_s(code: int) -> None:
    program = f"raise SystemExit({code})"
    assert launched(os.getpid(), sys.executable, "-c", program).returncode == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT])
def test_a_signal_that_ended_the_command_ends_the_launcher(number: int) -> None:
    program = f"import os; os.kill(os.getpid(), {number})"
    assert launched(os.getpid(), sys.executable, "-c", program).returncode == -number


def test_a_command_that_cannot_be_run_is_named() -> None:
    done = launched(os.getpid(), "/nowhere/python")
    assert done.returncode == 1
    assert done.stderr == "/nowhere/python cannot be run: No such file or directory\n"


def test_no_signal_is_ignored_or_blocked_in_the_command() -> None:
    program = (
        "import json, signal as s; print(json.dumps([[n.name for n in s.valid_signals() "
        "if s.getsignal(n) == s.SIG_IGN], [n.name for n in s.pthread_sigmask(s.SIG_BLOCK, [])]]))"
    )
    plain = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    ignored, blocked = json.loads(launched(os.getpid(), sys.executable, "-c", program).stdout)
    # Under nohup, say, these tests themselves ignore more.
    assert set(ignored) <= set(json.loads(plain.stdout)[0])
    assert blocked == []


def test_polite_signals_are_for_the_command(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
        "open('ready', 'w').write(f'{os.getpid()}\\n'); time.sleep(60)\n"
    )
    with launching(tmp_path, program) as process:
        number_in(tmp_path / "ready")
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(20) == 5


@linux_only
def test_what_left_the_session_and_its_parent_ends_with_the_command(tmp_path: Path) -> None:
    with launching(tmp_path, ORPHAN) as process:
        assert process.wait(20) == 0
        assert is_gone(number_in(tmp_path / "orphan"))


@linux_only
def test_on_demand_everything_ends_at_once(tmp_path: Path) -> None:
    with launching(tmp_path, f"{ORPHAN}\ntime.sleep(600)") as process:
        orphan = number_in(tmp_path / "orphan")
        assert not is_gone(orphan)
        process.send_signal(launch.STOP)
        assert process.wait(20) == -signal.SIGKILL
        assert is_gone(orphan)


PARENT = """
import os, subprocess, sys, time
command = sys.argv[1:3] + ["-S", sys.argv[3], str(os.getpid()), sys.executable, "-c", sys.argv[4]]
subprocess.Popen(command, start_new_session=True)
time.sleep(600)
"""


@linux_only
def test_everything_ends_when_the_worker_is_killed(tmp_path: Path) -> None:
    words = [sys.executable, "-I", launch.__file__, f"{ORPHAN}\ntime.sleep(600)"]
    with subprocess.Popen([sys.executable, "-c", PARENT, *words], cwd=tmp_path) as parent:
        orphan = number_in(tmp_path / "orphan")
        parent.kill()
        parent.wait(10)
        wait_until(lambda: is_gone(orphan), 10)


@linux_only
def test_orphans_that_end_by_themselves_leave_no_zombie(tmp_path: Path) -> None:
    program = (
        "import os, subprocess, time\n"
        "subprocess.run(['sh', '-c', 'setsid sh -c \"echo $$ > orphan\" &'], check=True)\n"
        "time.sleep(600)\n"
    )
    with launching(tmp_path, program) as process:
        orphan = number_in(tmp_path / "orphan")
        wait_until(lambda: not Path(f"/proc/{orphan}").exists(), 10)
        assert process.poll() is None


def test_importing_the_launcher_does_nothing() -> None:
    program = "import worker_comfyui.comfyui.process.launch; print('still here')"
    src = str(Path(launch.__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": src},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "still here\n"
