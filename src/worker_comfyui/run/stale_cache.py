"""Where ComfyUI's cache names files that are gone, their nodes are run again.

Output nodes never come from the cache (comfyui/cache_keys.py), but a node that another one makes
while it runs may: nobody knows of it before.
"""

from __future__ import annotations

import logging

from worker_comfyui.run.attempt import Attempted, attempt
from worker_comfyui.run.context import JobContext, Place

log = logging.getLogger(__name__)


def run_again_where_files_are_gone(context: JobContext, place: Place) -> Attempted:
    """Make an attempt, and a second one if its files are not there.

    Raises:
        JobError, JobCancelled: as `attempt` does.
    """
    first = attempt(context, place)
    workflow = context.job.workflow
    if not first.found_files_gone(workflow):
        return first
    log.info("ComfyUI reports cached files that are gone: running their nodes again")
    # What the other nodes saved was taken out with the first attempt: they run again as well.
    again = {*first.nodes(), *place.link.classes.output_nodes(workflow)}
    return attempt(context, place, again)
