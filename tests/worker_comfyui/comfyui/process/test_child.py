"""ComfyUI's process and its launcher, with real processes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.processes import is_gone, number_in, wait_until
from worker_comfyui.comfyui.process.child import ComfyProcess
from worker_comfyui.comfyui.process.log_lines import MAX_LINE_BYTES
from worker_comfyui.comfyui.process.process_log import MAX_TAIL_CHARACTERS, TAIL_LINES

SRC = Path(__file__).resolve().parents[4] / "src"


@contextmanager
def running(program: str, cwd: Path) -> Iterator[ComfyProcess]:
    process = ComfyProcess([sys.executable, "-u", "-c", program], cwd=cwd)
    try:
        yield process
    finally:
        process.stop(grace_s=0)


def ended(program: str, cwd: Path) -> tuple[int | None, list[str]]:
    """Run a program to its end; its exit code and the end of its log."""
    with running(program, cwd) as process:
        return process.wait(20), process.last_lines()


def test_a_process_runs_in_its_folder_to_its_exit_code(tmp_path: Path) -> None:
    code, lines = ended("import os, sys; print(os.getcwd()); sys.exit(3)", tmp_path)
    assert (code, lines) == (3, [str(tmp_path)])


def test_standard_error_is_in_the_log_too(tmp_path: Path) -> None:
    program = "import sys; print('out'); print('err', file=sys.stderr)"
    assert sorted(ended(program, tmp_path)[1]) == ["err", "out"]


def test_a_running_process_has_no_exit_code(tmp_path: Path) -> None:
    with running("import time; time.sleep(60)", tmp_path) as process:
        assert process.wait(0) is None
        assert process.wait(0.05) is None
        assert psutil.pid_exists(process.session)


def test_the_tail_of_the_log_is_complete_once_the_process_is_gone(tmp_path: Path) -> None:
    for _ in range(5):
        code, lines = ended("for i in range(20000): print(f'line {i}')", tmp_path)
        assert code == 0
        assert lines == [f"line {i}" for i in range(20000 - TAIL_LINES, 20000)]


def test_the_tail_is_complete_also_when_the_process_was_killed(tmp_path: Path) -> None:
    program = "import os; print('last words'); os.kill(os.getpid(), 9)"
    assert ended(program, tmp_path) == (-9, ["last words"])


def test_a_last_line_without_an_end_is_in_the_log(tmp_path: Path) -> None:
    assert ended("print('no end', end='')", tmp_path)[1] == ["no end"]


def test_a_progress_bar_is_one_line_with_its_last_state(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "for i in range(101): sys.stderr.write(f'\\r{i}%|' + '#' * i)\n"
        "sys.stderr.write('\\n')\n"
        "print('done\\r')\n"
        "print('\\r')\n"
    )
    assert ended(program, tmp_path)[1] == [f"100%|{'#' * 100}", "done"]


def test_the_log_has_no_colours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    program = "print('\\x1b[1m\\x1b[31m[ERROR]\\x1b[0m no GPU'); print('\\x1b[0m')"
    with caplog.at_level(logging.INFO, "comfyui"):
        assert ended(program, tmp_path) == (0, ["[ERROR] no GPU"])
    assert caplog.messages == ["[ERROR] no GPU"]


def test_every_line_is_logged_as_comfyui_s(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="comfyui"):
        ended("print('got prompt'); print(); print('  indented')", tmp_path)
    assert [record.getMessage() for record in caplog.records if record.name == "comfyui"] == [
        "got prompt",
        "  indented",
    ]


def test_bytes_that_are_no_text_are_logged_as_far_as_they_go(tmp_path: Path) -> None:
    program = r"import os; os.write(1, b'a\xff\xfeb\n')"
    assert ended(program, tmp_path)[1] == ["a\ufffd\ufffdb"]


def test_a_line_without_end_takes_bounded_memory(tmp_path: Path) -> None:
    code, lines = ended(f"print('x' * {MAX_LINE_BYTES * 50})", tmp_path)
    assert code == 0
    assert len(lines) == TAIL_LINES
    assert {len(line) for line in lines} <= {MAX_TAIL_CHARACTERS, 1}


def test_a_process_that_obeys_ends_within_its_grace(tmp_path: Path) -> None:
    program = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye'), sys.exit(0)))\n"
        "print('ready'); time.sleep(60)\n"
    )
    with running(program, tmp_path) as process:
        assert wait_until(lambda: process.last_lines() == ["ready"])
        started = time.monotonic()
        process.stop(grace_s=20)
        assert time.monotonic() - started < 10
        assert process.wait(0) == 0
        assert process.last_lines() == ["ready", "bye"]


def test_a_process_that_does_not_obey_is_killed_after_its_grace(tmp_path: Path) -> None:
    program = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('ready'); time.sleep(60)\n"
    )
    with running(program, tmp_path) as process:
        assert wait_until(lambda: process.last_lines() == ["ready"])
        process.stop(grace_s=0.2)
        assert process.wait(0) == -signal.SIGKILL


def test_a_frozen_process_is_killed(tmp_path: Path) -> None:
    with running("import time; print('ready'); time.sleep(60)", tmp_path) as process:
        assert wait_until(lambda: process.last_lines() == ["ready"])
        os.killpg(process.session, signal.SIGSTOP)
        process.stop(grace_s=0.1)
        # The polite signal is delivered with the other, and may be seen first.
        assert process.wait(0) in {-signal.SIGKILL, -signal.SIGTERM}


@pytest.mark.parametrize("grace_s", [0, 0.2])
def test_stop_ends_the_children_as_well(tmp_path: Path, grace_s: float) -> None:
    program = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open('child', 'w').write(f'{child.pid}\\n'); time.sleep(60)\n"
    )
    with running(program, tmp_path) as process:
        child = number_in(tmp_path / "child")
        process.stop(grace_s=grace_s)
        assert wait_until(lambda: is_gone(child))


def test_stop_ends_children_that_outlived_the_process(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open('child', 'w').write(f'{child.pid}\\n')\n"
    )
    with running(program, tmp_path) as process:
        child = number_in(tmp_path / "child")
        assert process.wait(20) == 0
        started = time.monotonic()
        process.last_lines()  # the child holds the log open: nobody waits for that
        process.stop(grace_s=5)
        assert time.monotonic() - started < 5
        assert wait_until(lambda: is_gone(child))


def test_stopping_twice_does_no_harm(tmp_path: Path) -> None:
    with running("import time; time.sleep(60)", tmp_path) as process:
        process.stop(grace_s=0)
        process.stop(grace_s=5)
        assert process.wait(0) is not None


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        ComfyProcess([sys.executable], cwd=tmp_path / "nowhere")


def test_an_interpreter_that_is_not_there_is_named_in_the_log(tmp_path: Path) -> None:
    process = ComfyProcess(["/nowhere/python", "main.py"], cwd=tmp_path)
    assert process.wait(20) == 1
    assert process.last_lines() == ["/nowhere/python cannot be run: No such file or directory"]
    process.stop(grace_s=0)


PARENT = """
import sys, time
from pathlib import Path
from worker_comfyui.comfyui.process.child import ComfyProcess
program = "import os, time; open('child', 'w').write(f'{os.getpid()}\\\\n'); time.sleep(60)"
process = ComfyProcess([sys.executable, "-c", program], cwd=Path(sys.argv[1]))
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such signal")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_process_dies_with_its_parent_however_that_ends(tmp_path: Path, number: int) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(SRC)}
    )
    try:
        child = number_in(tmp_path / "child")
        assert not is_gone(child)
        parent.send_signal(number)
        assert parent.wait(10) == -number
        assert wait_until(lambda: is_gone(child), 5)
    finally:
        parent.kill()
        parent.wait()
