from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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

    def __init__(self) -> None:
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
            body = json.dumps({"system": {}, "devices": []}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

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
