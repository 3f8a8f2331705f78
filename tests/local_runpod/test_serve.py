"""`./scripts/serve` and `./scripts/run` as people start them, with stub workers."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from tests.local_runpod.conftest import STUB
from tests.support.platform import ROOT
from tests.support.waiting import wait_until

WORKER = ["--worker", shlex.join(STUB)]


class Served:
    """A running `./scripts/serve`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, url: str) -> None:
        self.process = process
        self.log = log
        self.url = url

    def text(self) -> str:
        """What it has printed."""
        return self.log.read_text()

    def wait_for(self, text: str, seconds: float = 40) -> None:
        """Wait until it has printed a text."""
        wait_until(
            lambda: text in self.text() or self.process.poll() is not None, seconds, self.text
        )
        assert text in self.text(), self.text()

    def descendants(self) -> list[psutil.Process]:
        """Everything it has started."""
        return psutil.Process(self.process.pid).children(recursive=True)


@contextmanager
def serving(tmp_path: Path, *arguments: str, **environment: str) -> Iterator[Served]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "serve.log"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["./scripts/serve", "--port", str(port), *arguments],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(temporary), **environment},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    served = Served(process, log, f"http://127.0.0.1:{port}")
    try:
        yield served
    finally:
        process.terminate()
        process.wait(20)


def send_as_curl(text: str) -> requests.Response:
    """Send what the printed curl line would send; curl itself may not be installed."""
    line = re.search(r"^  (curl .*) \| cut", text, re.MULTILINE)
    assert line is not None
    program, silent, _x, method, url, _h, header, _d, data = shlex.split(line.group(1))
    assert (program, silent, data[0]) == ("curl", "-s", "@")
    headers = dict([header.split(": ")])
    return requests.request(
        method, url, headers=headers, data=Path(data[1:]).read_bytes(), timeout=30
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_prints_a_curl_line_that_works_and_leaves_nothing_behind(
    tmp_path: Path, number: int
) -> None:
    with serving(tmp_path, "--workers", "2", *WORKER) as served:
        served.wait_for("Ctrl-C stops everything.")
        answer = send_as_curl(served.text())
        assert answer.json()["status"] == "COMPLETED"
        requests.post(f"{served.url}/run", json={"input": {"sleep": 60}}, timeout=10)
        started = served.descendants()
        assert len(started) >= 2
        served.process.send_signal(number)
        assert served.process.wait(15) == 0
        assert "Traceback" not in served.text()
        # Ready means that one of them is: the other may not have said anything yet.
        assert re.search(r"^worker-[12] \| ", served.text(), re.MULTILINE)
    _gone, alive = psutil.wait_procs(started, timeout=5)
    assert alive == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_workers_do_not_outlive_a_killed_platform(tmp_path: Path) -> None:
    with serving(tmp_path, *WORKER) as served:
        served.wait_for("Ctrl-C stops everything.")
        started = served.descendants()
        served.process.kill()
        _gone, alive = psutil.wait_procs(started, timeout=15)
        assert alive == []


def test_a_taken_port_is_explained(tmp_path: Path) -> None:
    with serving(tmp_path, *WORKER) as served:
        served.wait_for("Starting 1 worker")
        port = served.url.rpartition(":")[2]
        second = subprocess.run(
            ["./scripts/serve", "--port", port, *WORKER],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert second.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in second.stderr
    assert "--port" in second.stderr
    assert "Traceback" not in second.stdout + second.stderr


def test_keys_are_asked_for_and_never_printed(tmp_path: Path) -> None:
    with serving(tmp_path, *WORKER, LOCAL_RUNPOD_API_KEY="s3cret other") as served:
        served.wait_for("Ctrl-C stops everything.")
        assert requests.get(f"{served.url}/health", timeout=10).status_code == 401
        headers = {"Authorization": "Bearer s3cret"}
        assert requests.get(f"{served.url}/health", headers=headers, timeout=10).ok
        assert "Authorization: Bearer" in served.text()
        assert "s3cret" not in served.text()


PRINTS_ITS_FORMAT = shlex.join(
    [sys.executable, "-c", "import os, sys; sys.exit(f'LOG_FORMAT={os.getenv(\"LOG_FORMAT\")}.')"]
)


def serve_in_a_terminal(**environment: str) -> str:
    """Start `serve` in a terminal with a worker that ends at once; gives what it shows."""
    ours, theirs = pty.openpty()
    arguments = ["./scripts/serve", "--port", "0", "--worker", PRINTS_ITS_FORMAT]
    process = subprocess.Popen(
        arguments, cwd=ROOT, env={**os.environ, **environment}, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    text = b""
    try:
        while data := os.read(ours, 65536):
            text += data
    except OSError:  # the other side is closed
        pass
    finally:
        os.close(ours)
        process.wait(30)
    return text.decode()


def test_workers_log_text_where_people_read_it(tmp_path: Path) -> None:
    assert "LOG_FORMAT=text." in serve_in_a_terminal()
    assert "LOG_FORMAT=json." in serve_in_a_terminal(LOG_FORMAT="json")
    with serving(tmp_path, "--worker", PRINTS_ITS_FORMAT) as served:
        served.wait_for("LOG_FORMAT=None.")
    run = ["./scripts/run", "--worker", PRINTS_ITS_FORMAT, "--output", str(tmp_path)]
    subprocess.run(run, cwd=ROOT, check=False, capture_output=True, timeout=60)
    assert "LOG_FORMAT=text." in (tmp_path / "run.log").read_text()


def test_run_that_cannot_start_shows_the_last_lines_and_the_log(tmp_path: Path) -> None:
    failing = [sys.executable, "-c", "import sys; sys.exit('no GPU here')"]
    result = subprocess.run(
        ["./scripts/run", "--worker", shlex.join(failing), "--output", str(tmp_path)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert "no GPU here" in result.stderr
    assert "/run.log\n" in result.stdout
    assert "no GPU here" in (tmp_path / "run.log").read_text()
    assert "Traceback" not in result.stdout + result.stderr


def test_ctrl_c_during_run_cancels_the_job_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text('{"input": {"sleep": 60}}')
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with subprocess.Popen(
        [str(ROOT / "scripts/run"), "request.json", *WORKER, "--output", "out"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        printed = iter(process.stdout)
        assert any("Running request.json" in line for line in printed)
        time.sleep(1.5)  # the worker is at it
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        rest = "".join(printed)
        assert process.wait(15) == 130
    assert "is CANCELLED" in rest
    _gone, alive = psutil.wait_procs(started, timeout=5)
    assert alive == []
    assert list(temporary.iterdir()) == []


def test_a_worker_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    result = subprocess.run(
        ["./scripts/run", "--worker", "no-such-program", "--output", str(tmp_path)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert "Cannot start no-such-program: No such file or directory" in result.stderr
