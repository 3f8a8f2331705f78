"""Starts a ComfyUI server for a test: `local_comfyui`, or a real one where one is given.

With ``TEST_COMFYUI_PATH`` (a ComfyUI checkout) and ``TEST_COMFYUI_PYTHON`` (its interpreter, by
default this one) in the environment, the same tests run against the real ComfyUI on the CPU.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from worker_comfyui.comfyui.process.port import free_port

ROOT = Path(__file__).resolve().parents[2]
LOCAL_COMFYUI = ROOT / "src" / "local_comfyui"
FAULT_NODES = ROOT / "tests" / "nodes" / "fault_nodes.py"

REAL_COMFYUI = os.environ.get("TEST_COMFYUI_PATH")
COMFYUI_PATH = Path(REAL_COMFYUI) if REAL_COMFYUI else LOCAL_COMFYUI
COMFYUI_PYTHON = os.environ.get("TEST_COMFYUI_PYTHON", sys.executable)
COMFYUI_FLAGS = ("--cpu", "--disable-auto-launch", "--database-url", "sqlite:///:memory:")

_START_SECONDS = 90
_POLL_SECONDS = 0.02


class NotReadyError(RuntimeError):
    """The server ended, or did not answer in time; the message holds its log."""


@dataclass(frozen=True)
class ComfyUI:
    """A running server."""

    host: str
    port: int
    base: Path
    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def url(self) -> str:
        """Its base URL, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    @property
    def address(self) -> str:
        """``host:port``, as ``COMFY_HOST`` wants it."""
        return f"{self.host}:{self.port}"

    def log(self) -> str:
        """All that it has printed."""
        return self.log_path.read_text(errors="replace")

    def get(self, path: str, **options: Any) -> requests.Response:
        """``GET`` a path."""
        return requests.get(self.url + path, timeout=30, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        """``POST`` to a path."""
        return requests.post(self.url + path, timeout=30, **options)

    def submit(self, prompt: dict[str, Any], **fields: Any) -> str:
        """Queue a prompt that must be accepted; returns its id."""
        response = self.post("/prompt", json={"prompt": prompt, **fields})
        assert response.status_code == 200, response.text
        prompt_id: str = response.json()["prompt_id"]
        return prompt_id

    def wait(self, prompt_id: str, seconds: float = 30) -> dict[str, Any]:
        """Wait until a prompt has ended; returns its history entry."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            history: dict[str, Any] = self.get(f"/history/{prompt_id}").json()
            if prompt_id in history:
                entry: dict[str, Any] = history[prompt_id]
                return entry
            time.sleep(_POLL_SECONDS)
        raise TimeoutError(f"prompt {prompt_id} did not end in {seconds} s\n{self.log()}")

    def run(self, prompt: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """Queue a prompt and wait until it has ended; returns its history entry."""
        return self.wait(self.submit(prompt, **fields))

    def stop(self, number: int = signal.SIGTERM, seconds: float = 10) -> int:
        """End it by a signal; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)


def prepare_base(base: Path, extra_nodes: Sequence[Path] = (FAULT_NODES,)) -> None:
    """Lay out a base directory, with these node files in its ``custom_nodes``."""
    for name in ("input", "output", "user", "custom_nodes", "models"):
        (base / name).mkdir(parents=True, exist_ok=True)
    for path in extra_nodes:
        shutil.copy(path, base / "custom_nodes")


@contextmanager
def running_comfyui(
    base: Path,
    extra_nodes: Sequence[Path] = (FAULT_NODES,),
    flags: Sequence[str] = (),
    *,
    port: int | None = None,
    always_local: bool = False,
) -> Iterator[ComfyUI]:
    """Run a server on a free port until the block ends.

    Args:
        base: Its base directory (``tmp_path``); folders in it are made as needed.
        extra_nodes: Node files to load.
        flags: More flags.
        port: A certain port, for one that is started again.
        always_local: Use `local_comfyui` even where a real ComfyUI is given.

    Raises:
        NotReadyError: It does not answer.
    """
    prepare_base(base, extra_nodes)
    chosen = port or free_port()
    log_path = base / "comfyui.log"
    python, path = (COMFYUI_PYTHON, COMFYUI_PATH)
    if always_local:
        python, path = (sys.executable, LOCAL_COMFYUI)
    command = [python, str(path / "main.py"), "--listen", "127.0.0.1"]
    command += ["--port", str(chosen), "--base-directory", str(base), *COMFYUI_FLAGS, *flags]
    with log_path.open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    server = ComfyUI("127.0.0.1", chosen, base, process, log_path)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)  # a frozen one would not see the next
            process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(server: ComfyUI) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise NotReadyError(f"exit status {server.process.returncode}\n{server.log()}")
        try:
            if requests.get(f"{server.url}/system_stats", timeout=1).ok:
                return
        except (requests.ConnectionError, requests.Timeout):
            time.sleep(_POLL_SECONDS)
    raise NotReadyError(f"no answer within {_START_SECONDS} s\n{server.log()}")
