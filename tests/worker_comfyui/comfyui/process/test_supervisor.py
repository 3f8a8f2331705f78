from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from worker_comfyui.comfyui.process.supervisor import Supervisor
from worker_comfyui.config import Settings

SRC = Path(__file__).resolve().parents[4] / "src"
HANG_S = 2.0

SUPERVISOR = """
import os
import sys
from worker_comfyui.comfyui.process.supervisor import Supervisor
from worker_comfyui.config import Settings
settings = Settings(comfy_host=sys.argv[1], comfy_hang_timeout_s=float(sys.argv[2]))
supervisor = Supervisor(settings, os.environ)
supervisor.start()
while True:
    print(supervisor.wait_ready().number, flush=True)
    sys.stdin.readline()
"""


class SlowComfyui:
    """Answers what the supervisor asks; `hold()` lets it wait for `answer`."""

    def __init__(self, body: bytes = b'{"system": {}, "devices": []}') -> None:
        self.body = body
        self.answer = threading.Event()
        self.answer.set()
        self.asked = threading.Event()
        self.times_asked = 0

    def hold(self) -> None:
        """Wait for the next question, and do not answer it yet."""
        self.answer.clear()
        self.asked.clear()
        assert self.asked.wait(10)

    def was_asked(self) -> None:
        """Note a question, and wait until it may be answered."""
        self.times_asked += 1
        self.asked.set()
        self.answer.wait(30)


@contextmanager
def serving(comfyui: SlowComfyui) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            comfyui.was_asked()
            self.send_response(200)
            self.send_header("Content-Length", str(len(comfyui.body)))
            self.end_headers()
            self.wfile.write(comfyui.body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            comfyui.answer.set()
            server.shutdown()
            thread.join()


@contextmanager
def supervising(address: str) -> Iterator[subprocess.Popen[str]]:
    """A process that prints the number of ComfyUI's incarnation, at first and for each line."""
    command = [sys.executable, "-c", SUPERVISOR, address, str(HANG_S)]
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def ready_line(system: bytes, devices: bytes, caplog: pytest.LogCaptureFixture) -> str:
    """Let a supervisor find a ComfyUI that describes itself so; return what it logs, in short."""
    body = b'{"system": %b, "devices": %b}' % (system, devices)
    with serving(SlowComfyui(body)) as address, caplog.at_level(logging.INFO):
        supervisor = Supervisor(Settings(comfy_host=address), {})
        supervisor.start()
        try:
            assert supervisor.wait_ready()
        finally:
            supervisor.stop()
    (line,) = [text for text in caplog.messages if "is ready" in text]
    assert line.isprintable()
    assert f"ComfyUI {supervisor.version or 'is'} " in line
    return re.sub(r"[0-9.]+ s", "N s", line)


@pytest.mark.parametrize(
    "devices",
    [
        *(b"[]", b"null", b"{}", b"5", b'"cuda"', b"NaN", b"[[]]", b"[null, 1e999, -5, true]"),
        *(b"[{}]", b'[{"name": null}]', b'[{"name": 5}]', b'[{"name": NaN}]', b'[{"name": ""}]'),
        *(b'[{"name": {"a": "b"}}]', b'[{"name": ["cuda:0"]}]', b'[{"name": -%b}]' % (b"9" * 4000)),
        b'[{"name": %b}]' % (b"[" * 900 + b"]" * 900),
    ],
)
def test_a_comfyui_that_names_no_device_is_ready(
    devices: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    line = ready_line(b'{"comfyui_version": "0.3.64"}', devices, caplog)
    assert line == "ComfyUI 0.3.64 is ready after N s"


@pytest.mark.parametrize(
    ("devices", "named"),
    [
        (b'[{"name": "cuda:0", "vram_total": "much"}]', "cuda:0"),
        (b'[{"name": "cuda:0", "vram_total": -1}, {"name": 5}, {"name": "cpu"}]', "cuda:0, cpu"),
        (rb'[{"name": "a\nb\u001b[31m\ud800"}]', "a�b�[31m�"),
        (b'[{"name": "%b"}]' % (b"x" * 5000), "x" * 61 + "..."),
        (b"[%b]" % b",".join([b'{"name": "a"}'] * 500), ", ".join("a" * 16)),
    ],
)
def test_devices_are_named_in_one_short_line(
    devices: bytes, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    line = ready_line(b'{"comfyui_version": "0.3.64"}', devices, caplog)
    assert line == f"ComfyUI 0.3.64 is ready after N s on {named}"


@pytest.mark.parametrize(
    ("system", "version"),
    [
        *((b"null", ""), (b"[]", ""), (b"5", ""), (b"{}", ""), (b'{"comfyui_version": ""}', "")),
        *((b'{"comfyui_version": null}', ""), (b'{"comfyui_version": 0.3}', "")),
        (rb'{"comfyui_version": "1\n2\ud800"}', " 1�2�"),
        (b'{"comfyui_version": "%b"}' % (b"x" * 5000), " " + "x" * 61 + "..."),
    ],
)
def test_a_version_that_is_none_is_not_told(
    system: bytes, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    line = ready_line(system, b'[{"name": "cpu"}]', caplog)
    assert line == f"ComfyUI{version} is ready after N s on cpu"


def test_a_worker_that_was_frozen_for_long_does_not_blame_comfyui() -> None:
    comfyui = SlowComfyui()
    with serving(comfyui) as address, supervising(address) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stdout.readline() == "1\n"
        comfyui.hold()
        worker.send_signal(signal.SIGSTOP)
        time.sleep(HANG_S + 1)
        worker.send_signal(signal.SIGCONT)
        time.sleep(0.5)  # its question has run into its time limit by now
        comfyui.answer.set()
        asked = comfyui.times_asked
        while comfyui.times_asked < asked + 3:
            time.sleep(0.05)
        worker.stdin.write("\n")
        worker.stdin.flush()
        assert worker.stdout.readline() == "1\n"  # still the same incarnation
