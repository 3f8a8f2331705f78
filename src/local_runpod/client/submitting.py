"""Sends a request, follows the job, saves its outputs: what `submit` and `run` have in common."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local_runpod.client.display import (
    describe_dry_run,
    describe_failure,
    describe_fetched,
    describe_saved,
    describe_timings,
    say,
    show_picture,
)
from local_runpod.client.endpoint import ClientError, EndpointClient
from local_runpod.client.outputs import Saved, save_outputs
from local_runpod.client.progress import JobProgress

INTERRUPTED = 130


def submit_and_save(client: EndpointClient, request: Mapping[str, Any], folder: Path) -> int:
    """Run a request from start to end; Ctrl-C cancels the job.

    Returns:
        The exit code: 0 if the job completed and all its outputs were saved.

    Raises:
        ClientError: The endpoint cannot be reached or refuses.
    """
    job_id = client.submit(request)
    try:
        return follow_and_save(client, job_id, folder)
    except KeyboardInterrupt:
        return _cancel(client, job_id)


def follow_and_save(client: EndpointClient, job_id: str, folder: Path) -> int:
    """Follow a job that was submitted; Ctrl-C leaves it as it is.

    Raises:
        ClientError: The endpoint cannot be reached, or does not know the job.
    """
    began = time.monotonic()
    with JobProgress() as progress:
        job = client.follow(job_id, progress.update)
    if job["status"] != "COMPLETED":
        describe_failure(job)
        return 1
    output = job.get("output")
    saved, problems = save_outputs(output, folder)
    describe_fetched(output)
    _report(output, saved, problems)
    runs = True
    if isinstance(output, dict) and output.get("status") == "dry_run":
        runs = describe_dry_run(output)
    describe_timings(job, time.monotonic() - began)
    return 0 if runs and not problems else 1


def _report(output: Any, saved: list[Saved], problems: list[str]) -> None:
    say(f"Saved {len(saved)} file{'s' if len(saved) != 1 else ''}:" if saved else "No outputs.")
    describe_saved(saved)
    show_picture(saved)
    warnings = output.get("errors") if isinstance(output, dict) else None
    for warning in warnings if isinstance(warnings, list) else []:
        say(f"Warning from the worker: {warning}")
    for problem in problems:
        say(f"Not saved: {problem}")


def _cancel(client: EndpointClient, job_id: str) -> int:
    try:
        state = client.cancel(job_id).get("status")
    except ClientError as error:
        say(f"The job {job_id} may go on: {error}")
    else:
        say(f"The job {job_id} is {state}.")
    return INTERRUPTED
