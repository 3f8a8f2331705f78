"""Nothing that is sent can stop the platform, and nobody else can be its worker."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from local_runpod import json_text
from local_runpod.workers.folder import platform_folder, sweep
from tests.local_runpod.conftest import StartPlatform
from tests.local_runpod.test_control_plane import HandWorker
from tests.local_runpod.test_gateway import problem
from tests.local_runpod.test_serve import WORKER, serving
from tests.support.platform import FAST, ROOT, RunningPlatform, running_platform


def nested(levels: int, opening: str = "[", closing: str = "]") -> bytes:
    """A request whose input has so many levels."""
    return b'{"input": ' + (opening * levels + closing * levels).encode() + b"}"


REFUSED = {
    "1e999": b'{"input": {"seed": 1e999}}',
    "-1e999": b'{"input": {"seed": -1e999}}',
    "NaN": b'{"input": {"seed": NaN}}',
    "a long number": b'{"input": {"seed": ' + b"9" * 5000 + b"}}",
    "deep lists": nested(100_000),
    "deep objects": nested(100_000, '{"a":', "1}")[:-1] + b"}",
    "a level too many": nested(json_text.DEEPEST),
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_what_no_worker_could_read_is_refused(gateway: RunningPlatform, body: bytes) -> None:
    status, detail = problem(gateway.post("/run", body))
    assert (status, detail[:12]) == (400, "bad request:")
    assert len(detail) < 300
    assert gateway.health()["jobs"]["inQueue"] == 0


CARRIED = {
    "a lone surrogate": rb'{"input": {"text": "\ud800"}}',
    "the deepest that is allowed": nested(json_text.DEEPEST - 1),
    "brackets in a text": json.dumps({"input": "[" * 100_000}).encode(),
    "a large number": b'{"input": {"seed": 1e308, "id": ' + b"9" * 4000 + b"}}",
}


@pytest.mark.parametrize("body", CARRIED.values(), ids=CARRIED)
def test_what_is_only_odd_reaches_the_worker_and_comes_back(
    gateway: RunningPlatform, body: bytes
) -> None:
    job_id = gateway.post("/run", body).json()["id"]
    worker = HandWorker(gateway, "w1")
    job = worker.take()
    assert job["input"] == json.loads(body)["input"]
    result = json.dumps({"output": job["input"], "error": {"text": "\udc00"}}).encode()
    assert worker.done(job_id, result).status_code == 200
    view = gateway.status(job_id)
    assert (view["output"], view["error"]) == (job["input"], '{"text": "\udc00"}')


def test_results_that_clients_could_not_read_are_refused(gateway: RunningPlatform) -> None:
    worker = HandWorker(gateway, "w1")
    for value in (b"1e999", b"[" * 400 + b"]" * 400):
        job_id = gateway.run({})
        worker.take()
        assert worker.done(job_id, b'{"output": ' + value + b"}").status_code == 400
        assert gateway.status(job_id)["status"] == "COMPLETED"


def test_a_job_that_cannot_be_handed_out_fails_and_blocks_nobody(gateway: RunningPlatform) -> None:
    queue = gateway.background.platform.queue
    odd = gateway.background.call(lambda: queue.submit({"input": float("inf")}, sync=False, size=1))
    good = gateway.run({"x": 1})
    worker = HandWorker(gateway, "w1")
    assert worker.get("job-take").status_code == 500
    assert worker.take()["id"] == good
    job = gateway.status(odd.id)
    assert job["status"] == "FAILED"
    assert "cannot be handed to a worker" in job["error"]


# Who may ask


WORKER_ROUTES = ["ping/w1", "job-take/w1", "job-take-batch/w1", "job-stop/w1", "job-done/w1/j"]


@pytest.mark.parametrize("route", WORKER_ROUTES)
def test_the_workers_side_is_for_who_has_its_token(gateway: RunningPlatform, route: str) -> None:
    parts = urlsplit(gateway.control_url)
    method = "POST" if "done" in route else "GET"
    for base in ("", "/v2/local", "/v2/ключ", f"/v2/{'x' * 43}"):
        url = f"{parts.scheme}://{parts.netloc}{base}/{route}"
        response = requests.request(method, url, timeout=10, json={"output": "forged"})
        assert problem(response)[0] == 401


def test_pages_and_names_do_not_reach_the_workers_side(gateway: RunningPlatform) -> None:
    port = urlsplit(gateway.control_url).port
    for headers in ({"Origin": "http://evil.example"}, {"Host": f"evil.example:{port}"}):
        response = requests.get(f"{gateway.control_url}/ping/w1", headers=headers, timeout=10)
        assert problem(response)[0] == 403


def test_each_platform_has_a_token_of_its_own_that_no_command_line_shows(
    platform: RunningPlatform, gateway: RunningPlatform
) -> None:
    token = platform.background.platform.token
    assert token != gateway.background.platform.token
    for pid in platform.worker_pids().values():
        worker = psutil.Process(pid)
        assert worker.environ()["RUNPOD_AI_API_KEY"] == token
        for process in (worker, *worker.children(recursive=True)):
            assert token not in " ".join(process.cmdline())


def test_workers_are_recognised_though_the_user_has_a_key_of_runpods(
    start: StartPlatform, tmp_path: Path
) -> None:
    """The SDK sends the key of this file, and not the one in the environment."""
    (tmp_path / ".runpod").mkdir()
    (tmp_path / ".runpod" / "config.toml").write_text('[default]\napi_key = "rpa_REAL"\n')
    with start(env={"HOME": str(tmp_path)}) as platform:
        assert platform.run_sync({"x": 1})["status"] == "COMPLETED"


def test_a_name_that_leads_here_may_not_even_read(gateway: RunningPlatform) -> None:
    """With DNS rebinding, a page's GET is of its own origin and names none."""
    job_id = gateway.run({})
    port = gateway.url.rpartition(":")[2]
    allowed = {"localhost": 200, "127.0.0.1": 200, "[::1]": 200, "worker": 200, "a.localhost": 200}
    for host, status in {**allowed, "evil.example": 403, "127.0.0.1.evil.example": 403}.items():
        headers = {"Host": f"{host}:{port}"}
        assert gateway.get(f"/status/{job_id}", headers).status_code == status, host


# Time


def trickle(url: str, path: str) -> bytes:
    """Send a POST that never ends; gives the answer."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        head = f"POST {parts.path}{path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        return connection.recv(65536)


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    with running_platform(limits=replace(FAST, body_timeout=0.3)) as platform:
        began = time.monotonic()
        assert trickle(platform.url, "/run").startswith(b"HTTP/1.1 408 ")
        assert trickle(platform.control_url, "/job-done/w/j").startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began < 10


# What is left behind


def test_folders_of_a_killed_platform_are_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, *WORKER) as served:
        served.wait_for("Ctrl-C stops everything.")
        children = served.descendants()
        served.process.kill()
        psutil.wait_procs(children, timeout=15)
    temporary = tmp_path / "tmp"
    (left,) = temporary.iterdir()
    assert [path.name[:9] for path in left.iterdir() if path.is_dir()] == ["worker-1-"]
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with platform_folder() as folder:
        assert list(temporary.iterdir()) == [folder]
    assert list(temporary.iterdir()) == []


def test_folders_of_living_platforms_and_of_strangers_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "local-runpod-link").symlink_to(elsewhere)
    (tmp_path / "local-runpod-no-lock").mkdir()
    script = (
        "from local_runpod.workers.folder import platform_folder\n"
        "with platform_folder() as folder: print(folder, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        living = Path(other.stdout.readline().strip())
        before = sorted(tmp_path.iterdir())
        sweep()
        assert sorted(tmp_path.iterdir()) == before
        other.send_signal(signal.SIGKILL)
    assert living.exists()
    sweep()
    assert not living.exists()
    assert len(list(tmp_path.iterdir())) == 3


# Keys


def cmdlines(process: psutil.Process) -> str:
    """The command lines that `ps` would show, of a process and all that it started."""
    shown: list[Any] = []
    for one in (process, *process.children(recursive=True)):
        shown += one.cmdline()
    return " ".join(shown)


@pytest.mark.parametrize("how", ["argument", "file"])
def test_keys_are_not_in_ps_nor_with_the_workers(tmp_path: Path, how: str) -> None:
    (tmp_path / "key").write_text("s3cret-key\n")
    options = {"argument": ["--api-key=s3cret-key"], "file": ["--api-key", f"@{tmp_path}/key"]}
    with serving(tmp_path, *options[how], *WORKER) as served:
        served.wait_for("Ctrl-C stops everything.")
        assert requests.get(f"{served.url}/health", timeout=10).status_code == 401
        headers = {"Authorization": "Bearer s3cret-key"}
        assert requests.get(f"{served.url}/health", headers=headers, timeout=10).ok
        assert "s3cret" not in cmdlines(psutil.Process(served.process.pid))
        for child in served.descendants():
            assert "s3cret" not in str(child.environ())
        assert "s3cret" not in served.text()
