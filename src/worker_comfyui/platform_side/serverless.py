"""The worker on RunPod: registered with the SDK, which decides how it is run.

Importing this imports the SDK, which takes most of a second: ComfyUI starts meanwhile.
"""

from __future__ import annotations

from functools import partial

from worker_comfyui.config import Settings
from worker_comfyui.platform_side import pings, sdk
from worker_comfyui.platform_side.loop import Loop
from worker_comfyui.platform_side.running import Runner, Worker


def serve(settings: Settings, worker: Worker) -> None:
    """Run jobs until the platform or a signal ends it: the loop, the local API or a test run."""
    runner = Runner(worker, settings.worker_concurrency)
    make_loop = partial(
        Loop,
        worker,
        runner,
        concurrency=settings.worker_concurrency,
        refresh_worker=settings.refresh_worker,
    )
    sdk.start(runner.handler, make_loop, pings.loop)
