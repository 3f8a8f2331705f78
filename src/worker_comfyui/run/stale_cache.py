"""Where ComfyUI's cache names files that are gone, their nodes are run again.

Output nodes never come from the cache (comfyui/cache_keys.py), but a node that another one makes
while it runs may: nobody knows of it before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from worker_comfyui.run.attempt import Attempted

log = logging.getLogger(__name__)


def run_again_where_files_are_gone(
    attempt: Callable[[Collection[str]], Attempted],
) -> Attempted:
    """Make an attempt, and a second one if its files are not there.

    Args:
        attempt: Takes the nodes that must run, whatever ComfyUI has of them in its cache.

    Raises:
        JobError, JobCancelled: as `attempt` does.
    """
    first = attempt(())
    if not first.found_files_gone():
        return first
    log.info("ComfyUI reports cached files that are gone: running their nodes again")
    # What the other nodes saved was taken out with the first attempt: they run again as well.
    return attempt(first.nodes() | first.output_nodes)
