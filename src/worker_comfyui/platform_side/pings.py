"""The process that pings the platform: it must neither outlive the worker nor end before it.

Alone, it would go on to report the jobs of a worker that was killed, and the platform would wait
for them. If it ended, the platform would give away the jobs of a worker that is well.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from multiprocessing.connection import wait
from typing import Any

from worker_comfyui.platform_side import sdk

log = logging.getLogger(__name__)

AGAIN_S = 5.0


def loop(mirror: Any = None, test: bool = False) -> None:
    """Send pings until the worker's process ends.

    Args:
        mirror: The SDK's, with the ids of the jobs in hand.
        test: Send one ping only.
    """
    worker = multiprocessing.parent_process()
    if worker is not None:
        if wait([worker.sentinel], timeout=0):  # it ended while this process started
            return
        threading.Thread(target=_end_with, args=(worker.sentinel,), daemon=True).start()
    while True:
        try:
            sdk.send_pings(mirror, once=test)
        except Exception as error:  # noqa: BLE001  # an odd answer, such as a redirect to no address
            log.warning("a ping failed: %s: %s", type(error).__name__, error)
            time.sleep(AGAIN_S)
        if test:
            return


def _end_with(sentinel: int) -> None:
    """End this process when the worker's does.

    The sentinel is a pipe that the worker holds open, whether this process was forked, spawned or
    forked by a server (where it is no child of the worker's, so that Linux's death signal does not
    help).
    """
    wait([sentinel])
    os._exit(1)
