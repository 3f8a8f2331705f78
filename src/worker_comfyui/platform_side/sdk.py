"""The RunPod SDK: all of it that the worker stands on. Nothing else imports it.

The SDK registers the worker, parses its command line, and checks the machine. It sends pings, and
runs the local API and the test run. On RunPod it makes one object of the class
`rp_scale.JobScaler` and starts it: the worker's own `Loop` stands there. Of the rest of the SDK
the loop uses what takes jobs and asks for stops, and the record of jobs in hand, which the pings
report. The behaviour relied on is that of TESTED.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import quote

# The SDK cannot be imported with an empty or unknown level. Its lines go to the worker's log.
os.environ["RUNPOD_LOG_LEVEL"] = "INFO"

# As it is imported the SDK asks for the processor's name, for reports that nobody makes here
# (rp_debugger.py). py-cpuinfo starts another Python for that, and takes more than a second.
with suppress(ImportError):
    import cpuinfo

    cpuinfo.get_cpu_info = lambda: {"brand_raw": platform.machine()}

import runpod
from aiohttp import ClientSession
from runpod import http_client
from runpod.serverless.modules import rp_http, rp_job, rp_logger, rp_ping, rp_scale
from runpod.serverless.modules.worker_state import JobsProgress

TESTED = "1.12.0"
"""The release that the tests in tests/worker_comfyui/platform_side were last run with."""

TooManyRequests = http_client.TooManyRequests

log = logging.getLogger(__name__)
sdk_log = logging.getLogger("runpod")

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Startable(Protocol):
    """What the SDK makes once, and starts."""

    def start(self) -> None:
        """Run until the worker ends."""


def start(
    handler: Handler,
    make_loop: Callable[[dict[str, Any]], Startable],
    ping_loop: Callable[..., None],
) -> None:
    """Register with the SDK and let it run.

    Args:
        handler: Runs a job of the local API, or that of a test run.
        make_loop: Makes, of the SDK's configuration, what takes and runs the platform's jobs.
        ping_loop: What the process that pings runs; a function of a module, since it is pickled.
    """
    check_version(runpod.__version__)
    rp_logger.RunPodLogger.log = log_line
    rp_scale.JobScaler = make_loop
    rp_ping.Heartbeat.process_loop = staticmethod(ping_loop)
    runpod.serverless.start({"handler": handler})


def check_version(installed: str) -> None:
    """Name an SDK that is not the tested one, so that nobody has to look for it."""
    if installed != TESTED:
        log.error(
            "runpod %s is installed, but this worker was tested with runpod %s: jobs may not be "
            "taken, cancelled or answered as they should",
            installed,
            TESTED,
            extra={"event": "untested_sdk"},
        )


def session(**options: Any) -> ClientSession:
    """Open a session that carries the worker's key; `options` are those of aiohttp's."""
    opened: ClientSession = http_client.AsyncClientSession(**options)
    return opened


async def take(taking: ClientSession, count: int) -> list[Any]:
    """Ask the platform for jobs, once: a long poll.

    Returns:
        What the session's `response_class` makes of the answer; empty where there is no job.

    Raises:
        TooManyRequests: to be asked again later.
        Exception: the platform did not answer as it should.
    """
    return await rp_job.get_job(taking, count) or []  # None for 204 and 400


def can_stop_jobs() -> bool:
    """Tell whether there is a channel on which the platform stops jobs."""
    return "/job-take/" in rp_job.JOB_GET_URL  # as the SDK's `_job_stop_url` has it


async def stop_signals(opened: ClientSession) -> list[str]:
    """Ask the platform which jobs to stop, once: a long poll. It raises as `take` does."""
    job_ids: list[str] = await rp_job.get_stop_signals(opened)
    return job_ids


def result_url(job_id: str) -> str:
    """Return where results and progress of a job go."""
    url: str = rp_http.JOB_DONE_URL.replace("$ID", quote(job_id, safe=""))
    return f"{url}&isStream=false"  # as rp_http.py `_handle_result`: the address has a query


def result_headers(job_id: str) -> dict[str, str]:
    """Return what the SDK sends with a result; the body is JSON, whatever the type says."""
    return {
        "charset": "utf-8",
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Request-ID": quote(job_id, safe=""),
    }


def hold(job_id: str) -> None:
    """Let the pings report a job as in hand."""
    JobsProgress().add(job_id)


def release(job_id: str) -> None:
    """Let the pings report a job no more."""
    JobsProgress().remove(job_id)


# The SDK's own, before `start` puts another in its place.
_ping_loop = rp_ping.Heartbeat.process_loop


def send_pings(mirror: Any, *, once: bool = False) -> None:
    """Ping the platform for ever, with the job ids that are in `mirror`."""
    _ping_loop(mirror, once)


_LEVELS = {"INFO": logging.INFO, "TIP": logging.INFO, "WARN": logging.WARNING}


def log_line(
    _logger: rp_logger.RunPodLogger,
    message: object,
    message_level: str = "INFO",
    job_id: str | None = None,
) -> None:
    """Stand in for `RunPodLogger.log`: the SDK's lines join the worker's log, masked."""
    if message_level in {"DEBUG", "TRACE"}:
        return  # whole jobs and results, keys included
    extra = {"job_id": job_id} if job_id else {}
    sdk_log.log(_LEVELS.get(message_level, logging.ERROR), "%s", message, extra=extra)
