"""Starts ComfyUI on the CPU and asks which node classes it has.

A custom node that cannot be imported only warns at start, and its classes are not there.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from node_packs.sources import NodeError

START_TIMEOUT_S = 300


def require_classes(expected: Iterable[str]) -> None:
    """Make sure that ComfyUI has the node classes.

    Raises:
        NodeError: it lacks some, or does not start at all.
    """
    comfyui = os.environ.get("COMFYUI_PATH", "/comfyui")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        flags = [f"--{kind}-directory={folder}" for kind in ("user", "temp", "input", "output")]
        with subprocess.Popen(
            [
                *(sys.executable, f"{comfyui}/main.py", "--cpu", "--port", str(port)),
                *("--database-url", "sqlite:///:memory:", *flags),
            ]
        ) as process:
            try:
                missing = [name for name in expected if not _has(name, port, process)]
            finally:
                process.kill()
    if missing:
        raise NodeError(
            f"ComfyUI has no node classes {', '.join(missing)}: why a custom node did not load "
            "is above"
        )


def _has(name: str, port: int, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        if process.poll() is not None:
            raise NodeError(f"ComfyUI does not start (exit code {process.returncode}); see above")
        if time.monotonic() > deadline:
            raise NodeError(f"ComfyUI did not start within {START_TIMEOUT_S} s; see above")
        try:
            with urlopen(f"http://127.0.0.1:{port}/object_info/{name}") as response:
                found: dict[str, Any] = json.load(response)
                return name in found
        except URLError:
            time.sleep(0.2)
