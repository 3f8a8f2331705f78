"""What Linux knows about real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from worker_comfyui.comfyui.process import vital_signs
from worker_comfyui.comfyui.process.child import ComfyProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")

LISTEN = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
time.sleep(600)
"""


@contextmanager
def session(program: str, cwd: Path) -> Iterator[tuple[int, str]]:
    """Run a program; yield its session and the first line that it prints."""
    process = ComfyProcess([sys.executable, "-c", program], cwd=cwd)
    try:
        wait_until(lambda: bool(process.last_lines()))
        yield process.session, process.last_lines()[0]
    finally:
        process.stop(grace_s=0)


def test_a_port_belongs_to_the_session_that_listens_there(tmp_path: Path) -> None:
    with session(LISTEN, tmp_path) as (ours, port), session(LISTEN, tmp_path) as (other, their):
        assert vital_signs.listens(ours, int(port)) is True
        assert vital_signs.listens(other, int(port)) is False
        assert vital_signs.listens(ours, int(their)) is False


def test_the_port_of_a_child_is_the_session_s_too(tmp_path: Path) -> None:
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {LISTEN!r}])"
    with session(program, tmp_path) as (ours, port):
        assert vital_signs.listens(ours, int(port)) is True


def test_whose_port_it_is_where_nobody_listens_is_not_known(tmp_path: Path) -> None:
    with session(LISTEN, tmp_path) as (ours, port):
        pass
    assert vital_signs.listens(ours, int(port)) is None


def test_work_is_seen_as_processor_time_of_all_its_processes(tmp_path: Path) -> None:
    work = "print('begun', flush=True)\nwhile True: pass"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
    with session(program, tmp_path) as (ours, _):
        before = vital_signs.activity(ours)
        assert before is not None
        wait_until(lambda: seconds(ours) > before.cpu_s + 0.2)


def test_one_that_sleeps_does_nothing(tmp_path: Path) -> None:
    program = "import time; print('asleep', flush=True); time.sleep(600)"
    with session(program, tmp_path) as (ours, _):
        assert seconds(ours) < 2
        found = vital_signs.activity(ours)
        assert found is not None
        assert not found.waits_for_disk


def seconds(session: int) -> float:
    found = vital_signs.activity(session)
    assert found is not None
    return found.cpu_s


@pytest.mark.parametrize("tells_number", [True, False], ids=["this Linux", "before 6.2"])
def test_descriptors_are_counted_against_the_limit(
    tells_number: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import os, resource, time\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))\n"
        "kept = [os.open(os.devnull, os.O_RDONLY) for _ in range(80)]\n"
        "print(len(os.listdir('/proc/self/fd')) - 1, flush=True); time.sleep(600)\n"
    )
    with session(program, tmp_path) as (ours, used):
        if not tells_number:
            monkeypatch.setattr(Path, "stat", lambda _: os.stat_result([0] * 10))
        assert vital_signs.descriptors_left(ours) == 100 - int(used)


def test_nothing_is_known_of_what_has_ended(tmp_path: Path) -> None:
    with session(LISTEN, tmp_path) as (ours, _):
        pass
    assert vital_signs.activity(ours) is None
    assert vital_signs.descriptors_left(ours) is None


def test_names_with_spaces_and_brackets_do_not_confuse_it(tmp_path: Path) -> None:
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "600"], start_new_session=True) as process:
        try:
            fields = vital_signs._stat(Path(f"/proc/{process.pid}/stat"))
            assert int(fields[1]) == os.getpid()
            assert int(fields[3]) == process.pid
        finally:
            process.kill()


def test_the_wait_for_a_processor_that_others_have_is_seen(tmp_path: Path) -> None:
    work = "print('begun', flush=True)\nwhile True: pass"
    pinned = f"import os; os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})\n{work}"
    with session(pinned, tmp_path) as (first, _), session(pinned, tmp_path) as (second, _):

        def queued() -> bool:
            found = [vital_signs.activity(one) for one in (first, second)]
            return any(one is not None and one.queued_s > 0.5 for one in found)

        wait_until(queued)
