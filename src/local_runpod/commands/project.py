"""What `serve` and `run` have in common: this project's folder, and how its workers start."""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from local_runpod.terminal import PlainFormatter
from local_runpod.workers.environment import worker_environment
from local_runpod.workers.pool import WorkerPlan

ROOT = Path(__file__).resolve().parents[3]
TEST_INPUT = ROOT / "test_input.json"


def worker_plan(
    options: Namespace,
    output: Callable[[str, str], None],
    *,
    several: bool = False,
    readable: bool,
) -> WorkerPlan:
    """Make the plan of the options.

    Args:
        options: `worker` is the command.
        output: Called with worker name and line.
        several: There will be more than one.
        readable: People read the workers' logs: text, unless LOG_FORMAT says otherwise. The workers
            themselves cannot tell, since they print into a pipe.
    """
    inherited = dict(os.environ)
    if readable:
        inherited.setdefault("LOG_FORMAT", "text")
    return WorkerPlan(
        command=options.worker,
        folder=ROOT,
        environment=worker_environment(ROOT, inherited, several=several),
        output=output,
    )


def log_to(stream: TextIO) -> None:
    """Send the platform's own log there."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter("platform | %(message)s"))
    logger = logging.getLogger("local_runpod")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
