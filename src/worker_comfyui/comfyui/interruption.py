"""Takes a prompt out of ComfyUI, whether it waits or runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing

from worker_comfyui.comfyui.client import ComfyClient
from worker_comfyui.comfyui.incarnation import Incarnation
from worker_comfyui.errors import ComfyUnavailable

log = logging.getLogger(__name__)

AGAIN_S = 0.05
TIMEOUT_S = 5.0


def interrupted(
    incarnation: Incarnation,
    prompt_id: str,
    ended: Callable[[Incarnation], object | None],
    limit_s: float,
) -> bool:
    """Take the prompt out, and wait until it is; False if ComfyUI did not obey in time.

    Args:
        incarnation: Where it was queued.
        prompt_id: Which one.
        ended: Tells whether the incarnation is no more, and the prompt with it.
        limit_s: Seconds for a running node to obey.
    """
    give_up_at = time.monotonic() + limit_s
    with closing(ComfyClient(incarnation.address, timeout_s=TIMEOUT_S)) as client:
        while not ended(incarnation):
            try:
                client.cancel(prompt_id)
                if not client.is_queued(prompt_id):
                    return True
            except ComfyUnavailable as error:
                log.warning(str(error))
            if time.monotonic() > give_up_at:
                return False
            time.sleep(AGAIN_S)
    return True
