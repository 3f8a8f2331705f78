"""The steps of one job: inputs → the turn → execution → delivery."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from worker_comfyui import strict
from worker_comfyui.comfyui.supervisor import Incarnation
from worker_comfyui.delivery import delivery
from worker_comfyui.delivery.bucket import Bucket
from worker_comfyui.errors import ResultTooLarge
from worker_comfyui.job import FetchedInput
from worker_comfyui.request import inputs
from worker_comfyui.run.attempt import lookup
from worker_comfyui.run.context import JobContext, Place
from worker_comfyui.run.crash import run_again_after_a_crash
from worker_comfyui.run.made import Made, made
from worker_comfyui.run.stale_cache import run_again_where_files_are_gone
from worker_comfyui.comfyui.workspace import LocalWorkspace, RemoteWorkspace, Workspace, digest_of

MEGA = 1_000_000


def run_job(context: JobContext, limit_bytes: int) -> dict[str, Any]:
    """Run a job, and return its result within `limit_bytes` of JSON.

    Raises:
        JobError: the job failed.
        JobCancelled: the job was cancelled.
    """
    job, stop = context.job, context.stop
    stop.limit(job.timeout_s or context.shared.settings.job_timeout_s)
    stop.phase("inputs")
    bucket = _bucket(context)
    with tempfile.TemporaryDirectory(
        prefix="job-", dir=context.shared.supervisor.scratch, ignore_cleanup_errors=True
    ) as folder:
        scratch = Path(folder)
        (scratch / "inputs").mkdir()
        files = inputs.fetch(job.files, scratch / "inputs", context.shared.settings, stop)
        stop.phase("wait")
        with context.shared.turns.turn(stop) as ends:
            stop.phase("execution")
            results = _execute(context, files, scratch, ends)
        stop.phase("delivery")
        results.warnings[:0] = [*job.warnings, *(f.warning for f in files if f.warning)]
        result = _deliver(context, results, bucket, limit_bytes)
    return {**result, "timings": stop.timings}


def _bucket(context: JobContext) -> Bucket | None:
    """Return where files go, and see before any work that they can go there."""
    config, shared = context.job.s3_config, context.shared
    bucket = shared.bucket
    if config:
        bucket = Bucket.from_s3_config(config, shared.settings, context.stop)
    delivery.check(context.job.output, bucket)
    return bucket


def _execute(
    context: JobContext, files: list[FetchedInput], scratch: Path, ends: ExitStack
) -> Made:
    """Run the workflow on the ComfyUI of the turn."""

    def once(incarnation: Incarnation) -> Made:
        ends.close()  # what a run before left, whose ComfyUI was lost
        ends.enter_context(context.shared.supervisor.in_use(incarnation))
        link = context.shared.links.to(incarnation)
        workspace: Workspace
        if incarnation.folders is None:
            workspace = RemoteWorkspace(link.patient, scratch)
        else:
            workspace = LocalWorkspace(incarnation.folders, scratch)
        ends.callback(workspace.close)
        workspace.stage(paths)
        place = Place(link, workspace, contents, ends)
        return made(run_again_where_files_are_gone(context, place), lookup(context, place))

    paths = {file.name: file.path for file in files}
    contents = {name: digest_of(path) for name, path in paths.items()}
    return run_again_after_a_crash(once, context.shared.supervisor, context.stop)


def _deliver(
    context: JobContext, results: Made, bucket: Bucket | None, limit_bytes: int
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if results.texts:
        result["texts"] = results.texts
    text_bytes = strict.size(strict.clean([result, results.warnings]))
    if text_bytes > limit_bytes:
        raise ResultTooLarge(
            f"the workflow's texts alone have {text_bytes / MEGA:.1f} MB as JSON, and at most "
            f"{limit_bytes / MEGA:.1f} MB can be returned; a text that is saved as a file can "
            "go to a bucket"
        )
    delivered = delivery.Delivery(
        options=context.job.output,
        bucket=bucket,
        job_id=context.job.id,
        limit_bytes=limit_bytes - text_bytes,
        stop=context.stop,
    ).deliver(results.files)
    result |= delivered.lists
    if not delivered.lists:  # as the existing worker says it
        result |= {"status": "success_no_images", "images": []}
    if warnings := [*results.warnings, *delivered.warnings]:
        result["errors"] = warnings
    return result
