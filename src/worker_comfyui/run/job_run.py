"""The steps of one job: inputs → workflow and models → the turn → execution → delivery."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from worker_comfyui import __version__
from worker_comfyui.comfyui.lookup import lookup
from worker_comfyui.comfyui.process.supervisor import Incarnation
from worker_comfyui.comfyui.workspace import LocalWorkspace, RemoteWorkspace, Workspace
from worker_comfyui.delivery import delivery, presigned
from worker_comfyui.delivery.bucket import Bucket
from worker_comfyui.delivery.delivery import Delivery
from worker_comfyui.delivery.result import Made, result_of, within
from worker_comfyui.job import FetchedInput
from worker_comfyui.request import inputs
from worker_comfyui.run.attempt import Attempted, attempt
from worker_comfyui.run.context import JobContext, Place
from worker_comfyui.run.crash import run_again_after_a_crash
from worker_comfyui.run.made import made
from worker_comfyui.run.prepare import Prepared, dry_run, prepare
from worker_comfyui.run.stale_cache import run_again_where_files_are_gone
from worker_comfyui.run.turn import Turn
from worker_comfyui.workflows.stored import StoredWorkflows


def run_job(context: JobContext, limit_bytes: int | None) -> dict[str, Any]:
    """Run a job, and return its result.

    Args:
        context: The job.
        limit_bytes: How large the result may be as JSON; None: what is made goes nowhere.

    Raises:
        JobError: the job failed.
        JobCancelled: the job was cancelled.
    """
    job, stop, settings = context.job, context.stop, context.shared.settings
    stop.limit(job.timeout_s or settings.job_timeout_s)
    if job.model_job is not None:
        stop.phase("models")
        answer = context.shared.models.run_job(job.model_job, stop.check, context.say)
        return within(limit_bytes, {**answer, "timings": stop.timings})
    stop.phase("inputs")
    if job.lists_workflows:
        stored = StoredWorkflows(settings.workflow_folders())
        return {**stored.listing(), "timings": stop.timings}
    if job.dry_run:
        return within(limit_bytes, {**dry_run(context), **_about(context)})
    bucket = _bucket(context) if limit_bytes is not None else None
    with ExitStack() as done:
        scratch = _scratch(context, done)
        # All that needs no GPU is done before the turn: it is another job's meanwhile.
        files = inputs.fetch(job.files, scratch / "inputs", settings, stop)
        prepared = prepare(context, done)
        context = replace(context, job=prepared.job)
        stop.phase("wait")
        with context.shared.turns.turn(stop) as turn:
            stop.phase("execution")
            what = _execute(context, _Ready(prepared, files, scratch), turn)
        if limit_bytes is None:
            return {"timings": stop.timings}
        stop.phase("delivery")
        private = settings.allow_private_input_urls
        result = result_of(what, Delivery(job.output, bucket, job.id, limit_bytes, stop, private))
    return {**result, **_about(context)}


def _about(context: JobContext) -> dict[str, Any]:
    """Say how long the job took, and what ran it."""
    if context.job.dry_run:  # nothing ran
        return {"timings": context.stop.timings}
    versions = {"version": __version__, "comfyui": context.shared.supervisor.version}
    return {
        "timings": context.stop.timings,
        "worker": {name: version for name, version in versions.items() if version},
    }


def _scratch(context: JobContext, done: ExitStack) -> Path:
    """Make a folder for the job's files, until it is done."""
    folder = tempfile.TemporaryDirectory(
        prefix="job-", dir=context.shared.supervisor.scratch, ignore_cleanup_errors=True
    )
    return Path(done.enter_context(folder))


def _bucket(context: JobContext) -> Bucket | None:
    """Return where files go, and see before any work that they can go there."""
    config, shared = context.job.s3_config, context.shared
    bucket = shared.bucket
    if config:
        bucket = Bucket.from_s3_config(config, shared.settings, context.stop)
    delivery.check(context.job.output, bucket)
    private = shared.settings.allow_private_input_urls
    presigned.check(context.job.output.upload, context.stop, allow_private=private)
    return bucket


@dataclass(frozen=True, slots=True)
class _Ready:
    """What there is before the turn: a workflow, its input files, and a folder for the rest."""

    prepared: Prepared
    files: Sequence[FetchedInput]
    scratch: Path


def _execute(context: JobContext, ready: _Ready, turn: Turn) -> Made:
    """Run the workflow on the ComfyUI of the turn."""

    def once(incarnation: Incarnation) -> Made:
        def one(again: Collection[str]) -> Attempted:
            turn.ends.close()  # what an attempt before left
            return attempt(context, _place(context, ready, incarnation, turn), again)

        return made(run_again_where_files_are_gone(one))

    what = run_again_after_a_crash(once, context.shared.supervisor, context.stop)
    odd = [*context.job.warnings, *ready.prepared.notes]
    odd += [file.warning for file in ready.files if file.warning]
    return replace(what, facts=ready.prepared.facts, warnings=[*odd, *what.warnings])


def _place(context: JobContext, ready: _Ready, incarnation: Incarnation, turn: Turn) -> Place:
    """Make ComfyUI's folders the job's own, with its inputs in them."""
    shared = context.shared
    # What is put on last ends first: the prompt, the files, then the hold on ComfyUI, which may be
    # started again from there on.
    look = turn.ends.enter_context(shared.supervisor.in_use(incarnation))
    link = shared.links.to(incarnation)
    workspace: Workspace
    if incarnation.folders is None:
        workspace = RemoteWorkspace(link.patient, ready.scratch)
    else:
        workspace = LocalWorkspace(incarnation.folders, ready.scratch)
    turn.ends.callback(workspace.close)
    workspace.stage({file.name: file.path for file in ready.files})
    workflow = link.classes.of_today(context.job.workflow)
    contents = {file.name: file.sha256 for file in ready.files}
    messages = lookup(link.patient, workflow, contents, shared.settings, ready.prepared.missing)
    messages = replace(messages, misfits=ready.prepared.misfits)
    return Place(link, workspace, workflow, contents, messages, turn, look)
