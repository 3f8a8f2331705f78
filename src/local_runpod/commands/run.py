"""`run`: one request on a platform of its own."""

from __future__ import annotations

import os
import re
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from local_runpod.background import running_platform
from local_runpod.client.display import say, short_path
from local_runpod.client.endpoint import EndpointClient
from local_runpod.client.submitting import submit_and_save
from local_runpod.commands.project import log_to, worker_plan
from local_runpod.commands.submit import request_of
from local_runpod.server import PlatformSettings, StartError
from local_runpod.terminal import plain
from local_runpod.workers.environment import describe_comfyui

_WARNING = re.compile(r"[\d:]+ WARNING +(?!│)")
"""How a worker's own warnings begin in a log that is text."""


def run(options: Namespace) -> int:
    """Start the platform, run the request, save its files, stop; gives the exit code."""
    request = request_of(options)
    options.output.mkdir(parents=True, exist_ok=True)
    log_path: Path = options.output / "run.log"
    say(f"ComfyUI: {describe_comfyui(os.environ)}")
    with log_path.open("w", errors="backslashreplace") as log_file:
        log_to(log_file)
        is_ready = threading.Event()
        plan = worker_plan(options, _output(log_file, options, is_ready), readable=True)
        try:
            with running_platform(PlatformSettings(plan=plan)) as platform:
                began = time.monotonic()
                say("Starting the worker and ComfyUI ...")
                platform.until_ready()
                is_ready.set()
                say(f"Ready after {time.monotonic() - began:.1f} s.")
                say(f"Running {short_path(options.request)} ...")
                code = submit_and_save(EndpointClient(platform.url), request, options.output)
        except StartError:
            say(f"The whole log is in {short_path(log_path)}")
            raise
    if code:
        say(f"The worker's log is in {short_path(log_path)}")
    else:
        say("Next: ./scripts/run YOUR_WORKFLOW.json, or ./scripts/serve for an API like RunPod's.")
    return code


def _output(
    log_file: TextIO, options: Namespace, is_ready: threading.Event
) -> Callable[[str, str], None]:
    """Write the workers' lines into the file, and show them where they are asked for.

    What a worker warns of while it starts is shown in any case: it may be what it waits for.
    """

    def write(name: str, line: str) -> None:
        log_file.write(f"{name} | {plain(line)}\n")
        log_file.flush()
        if options.verbose or (not is_ready.is_set() and _WARNING.match(plain(line))):
            say(f"{name} | {line}")

    return write
