"""Starts ComfyUI on the CPU and makes sure that its custom nodes load.

One that cannot be imported only warns at start, and its classes are not there; a class whose
INPUT_TYPES raises is left out of `/object_info`, and fails in the first job that uses it.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from typing import Any
from urllib.request import urlopen

from node_packs.sources import NodeError

START_TIMEOUT_S = 300

# What ComfyUI logs, the same since 0.3: nodes.py, server.py.
_NOT_IMPORTED = re.compile(r"\(IMPORT FAILED\): \S*custom_nodes[/\\](.+)")
_NOT_DESCRIBED = re.compile(r"retrieving information for the '(.+)' node")
_RAISED = re.compile(r"^(\w[\w.]*)(?::.*)?$", re.MULTILINE)
"""The last line of a traceback; the others are indented, or are sentences."""


def require_loaded(expected: Iterable[str] = ()) -> None:
    """Make sure that ComfyUI starts with all its custom nodes, and has the node classes.

    Args:
        expected: Names of node classes.

    Raises:
        NodeError: a custom node or class does not load, or ComfyUI does not start at all.
    """
    print("Starting ComfyUI once, on the CPU, to see that everything loads ...", flush=True)
    classes, log = _start()
    if found := _NOT_IMPORTED.findall(log):
        raise NodeError(f"{', '.join(found)}: ComfyUI cannot import it; why is above")
    broken, waiting = _not_described(log)
    if waiting:
        sys.stderr.write(
            f"warning: {', '.join(waiting)}: no workflow can use it: it looks for something of "
            "another custom node, which is not there; what that is stands above\n"
        )
    if broken:
        raise NodeError(f"{', '.join(broken)}: ComfyUI cannot ask it for its inputs; see above")
    if missing := [name for name in expected if name not in classes]:
        raise NodeError(
            f"ComfyUI has no node classes {', '.join(missing)}: why a custom node did not load "
            "is above"
        )


def _not_described(log: str) -> tuple[list[str], list[str]]:
    """Return the classes that cannot say their inputs: broken ones, and those that may once can.

    Some packs have a class for the models of another pack: as long as that has not added its
    folder of models, asking for it is a KeyError (ComfyUI's folder_paths.py).
    """
    broken: list[str] = []
    waiting: list[str] = []
    _, *parts = _NOT_DESCRIBED.split(log)
    for name, rest in zip(parts[::2], parts[1::2], strict=True):
        raised = _RAISED.search(rest)
        (waiting if raised and raised[1] == "KeyError" else broken).append(name)
    return broken, waiting


def _start() -> tuple[dict[str, Any], str]:
    """Return the node classes of a ComfyUI that was started for it, and what it logged."""
    comfyui = os.environ.get("COMFYUI_PATH", "/comfyui")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        flags = [f"--{kind}-directory={folder}" for kind in ("user", "temp", "input", "output")]
        # Else it writes its database into the image (comfy/cli_args.py, --database-url).
        command = [
            *(sys.executable, "-u", f"{comfyui}/main.py", "--cpu", "--port", str(port)),
            *("--database-url", "sqlite:///:memory:", *flags),
        ]
        with subprocess.Popen(  # nosec B603  # ComfyUI itself
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process:
            lines: list[str] = []
            relay = threading.Thread(target=_relay, args=(process, lines))
            relay.start()
            try:
                classes = _classes(port, process)
            finally:
                process.kill()  # it has nothing to save
                relay.join()
    return classes, "".join(lines)


def _relay(process: subprocess.Popen[str], lines: list[str]) -> None:
    """Show what ComfyUI logs, and keep it."""
    for line in process.stdout or ():
        sys.stderr.write(line)
        lines.append(line)


def _classes(port: int, process: subprocess.Popen[str]) -> dict[str, Any]:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        if process.poll() is not None:
            raise NodeError(f"ComfyUI does not start (exit code {process.returncode}); see above")
        left = deadline - time.monotonic()
        if left <= 0:
            raise NodeError(f"ComfyUI did not start within {START_TIMEOUT_S} s; see above")
        try:
            # A custom node may hang while it is asked for its inputs.
            address = f"http://127.0.0.1:{port}/object_info"
            with urlopen(address, timeout=left) as response:  # nosec B310  # of this machine
                found: dict[str, Any] = json.load(response)
                return found
        except OSError:  # nobody listens yet, or it ended: that is seen above
            time.sleep(0.2)
