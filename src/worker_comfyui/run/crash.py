"""A job that loses its ComfyUI is run once more, on the next one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from worker_comfyui.comfyui.client import ComfyClient
from worker_comfyui.comfyui.process.supervisor import Incarnation, Supervisor
from worker_comfyui.errors import ComfyCrashed, ComfyUnavailable, StartError
from worker_comfyui.stop import Stop

log = logging.getLogger(__name__)

Made = TypeVar("Made")

RUNS = 2
"""A crash may be chance. A workflow that ends ComfyUI twice would do it for ever."""
PING_TIMEOUT_S = 1.0
LOOK_S = 0.05


def run_again_after_a_crash(
    once: Callable[[Incarnation], Made], supervisor: Supervisor, stop: Stop
) -> Made:
    """Run it on the ComfyUI that is ready, or will be; on the next one if that is lost.

    Raises:
        ComfyCrashed, ComfyUnavailable: ComfyUI was lost in both runs, or is down for good.
        JobCancelled, TimedOut: it was time to stop.
    """
    for run in range(1, RUNS + 1):
        incarnation = ready(supervisor, stop)
        try:
            return once(incarnation)
        except ComfyUnavailable as error:
            lost = _what_happened(error, incarnation, supervisor, stop)
            log.warning(str(lost), extra={"event": "comfyui_lost", "run": run})
            ended = supervisor.failure(incarnation)
            if ended and not ended.run_again:
                lost.retryable = False
                raise lost from error
            if run == RUNS:
                message = f"{lost.message} (in both of {RUNS} runs)"
                raise type(lost)(message, lost.details) from error
    raise AssertionError("the loop returns or raises")


def ready(supervisor: Supervisor, stop: Stop) -> Incarnation:
    """Wait for a ComfyUI that can be used.

    Raises:
        ComfyCrashed: it is down for good.
        JobCancelled, TimedOut: it was time to stop.
    """
    try:
        incarnation = supervisor.wait_ready(stop.is_due)
    except StartError as error:
        raise ComfyCrashed(error.message) from error
    stop.check()
    if incarnation is None:
        raise AssertionError("`is_due` and `check` agree")
    return incarnation


def _what_happened(
    error: ComfyUnavailable, incarnation: Incarnation, supervisor: Supervisor, stop: Stop
) -> ComfyUnavailable:
    """Wait until it is clear whether ComfyUI is gone, as the supervisor notices, or is back."""
    if isinstance(error, ComfyCrashed):
        return error
    with ComfyClient(incarnation.address, timeout_s=PING_TIMEOUT_S) as client:
        while True:
            # Asked first: where the port is given, the next ComfyUI answers at the same address.
            answers = client.is_ready()
            if ended := supervisor.failure(incarnation):
                return ComfyCrashed(ended.reason)
            if answers:
                return error
            stop.check()
            time.sleep(LOOK_S)
