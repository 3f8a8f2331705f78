"""Before anything is queued: what was sent becomes a workflow, and its models are there.

API workflows that name no missing model need nothing of it and cost nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from worker_comfyui.comfyui.client import ComfyClient
from worker_comfyui.comfyui.lookup import lookup
from worker_comfyui.comfyui.node_classes import NodeClasses
from worker_comfyui.errors import Detail, InvalidRequest
from worker_comfyui.job import Job
from worker_comfyui.models import catalogue
from worker_comfyui.models.catalogue import Entry, Origin
from worker_comfyui.models.look import WANTED, Survey
from worker_comfyui.models.transfer.progress import Progress
from worker_comfyui.request import inputs
from worker_comfyui.run.context import JobContext
from worker_comfyui.run.crash import ready
from worker_comfyui.workflows import check, form
from worker_comfyui.workflows.resolve import Options, Resolved, resolve
from worker_comfyui.workflows.sent import Sources
from worker_comfyui.workflows.stored import StoredWorkflows


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job whose workflow can be queued.

    Attributes:
        job: With the workflow that runs.
        facts: What the result says about it: `drawn`, `workflow`, `models`.
        notes: What the caller should know; sentences.
        missing: Models that nobody says where to get: advice by name.
        misfits: What to say, if they are refused, of nodes from another version, by id.
    """

    job: Job
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    misfits: Mapping[str, str] = field(default_factory=dict)


def prepare(context: JobContext, in_use: ExitStack) -> Prepared:
    """Convert the workflow, set the overrides, and fetch the models that it names.

    Args:
        context: The job.
        in_use: Takes what keeps the models where they are until the workflow has run.

    Raises:
        InvalidRequest: what was sent is no workflow, or an override or a model's entry is wrong.
        ModelRefused, ModelUnavailable: a model may not be had, or cannot be had now.
        JobCancelled, TimedOut: it was to stop.
    """
    job = context.job
    resolved = _resolved(context, lenient=False)
    entries = _entries(job, resolved)
    facts: dict[str, Any] = {}
    workflow, missing = resolved.workflow, {}
    models = context.shared.models
    if models.is_needed(workflow, entries):
        context.stop.phase("models")
        with ComfyClient(ready(context.shared.supervisor, context.stop).address) as client:
            workflow = NodeClasses(client.node_class, client.node_replacements).of_today(workflow)
            ensured = models.ensure(
                workflow, client, entries, context.stop.check, lambda now: _tell(context, now)
            )
        in_use.callback(ensured.close)
        workflow, missing = ensured.workflow, ensured.missing
        if ensured.fetched:
            facts["models"] = ensured.fetched
    if resolved.drawn:
        facts["drawn"] = dict(resolved.drawn)
    if job.output.workflow:
        facts["workflow"] = workflow
    runs = replace(job, workflow=workflow, extra_data=_with_graph(job, resolved))
    return Prepared(runs, facts, tuple(resolved.notes), missing, resolved.misfits)


def dry_run(context: JobContext) -> dict[str, Any]:
    """Say what would run, and all that is wrong with it, without running it.

    Raises:
        InvalidRequest: what was sent is no workflow.
        JobCancelled, TimedOut: it was to stop.
    """
    shared, job = context.shared, context.job
    resolved = _resolved(context, lenient=True)
    incarnation = ready(shared.supervisor, context.stop)
    info = shared.object_info.of(incarnation)
    workflow = shared.object_info.classes(incarnation).of_today(resolved.workflow)
    sent = [file.name for file in job.files]
    entries = _entries(job, resolved)
    with ComfyClient(incarnation.address) as client:
        models = shared.models.look(workflow, client, entries, context.stop.check)
        advice = models.advice if shared.models.is_needed(workflow, entries) else {}
        locate = lookup(client, workflow, sent, shared.settings, advice).locate
        problems = check.problems(workflow, info, sent=sent, locate=locate, told=resolved.problems)
    result: dict[str, Any] = {
        "status": "dry_run",
        "workflow": workflow,
        "inputs": form.form_of(workflow, info),
        "problems": [*_not_of(models, problems), *models.refused],
        "models": models.models,
    }
    if resolved.drawn:
        result["drawn"] = dict(resolved.drawn)
    if notes := [*job.warnings, *resolved.notes]:
        result["errors"] = notes
    return result


def _not_of(models: Survey, problems: Iterable[Detail]) -> Iterator[Detail]:
    """Leave out that ComfyUI does not list a model: it would be fetched, or is refused before."""
    told = [model for model in models.models if model["status"] == WANTED] + models.refused
    places = {(one["node_id"], one["input"]) for one in told}
    for problem in problems:
        if (problem.get("node_id"), problem.get("input")) not in places:
            yield problem


def _resolved(context: JobContext, *, lenient: bool) -> Resolved:
    job = context.job
    if job.source is None and not job.overrides:
        return Resolved(job.workflow)
    stored = StoredWorkflows(context.shared.settings.workflow_folders())
    options = Options(
        sources=Sources(load=lambda text, path: _load(context, text, path), find=stored.find),
        overrides=job.overrides,
        known=[file.name for file in job.files],
        lenient=lenient,
        check=context.stop.check,
    )
    sent = job.workflow if job.source is None else job.source

    def object_info() -> Mapping[str, Any]:
        incarnation = ready(context.shared.supervisor, context.stop)
        return context.shared.object_info.with_old_names(incarnation)

    return resolve(sent, object_info, options)


def _load(context: JobContext, text: str, path: str) -> bytes:
    """Read a workflow's file that was sent as data or as a URL."""
    with tempfile.TemporaryDirectory(
        prefix="workflow-", dir=context.shared.supervisor.scratch
    ) as at:
        file = inputs.fetch_one(text, path, Path(at), context.shared.settings, context.stop)
        return file.read_bytes()


def _entries(job: Job, resolved: Resolved) -> list[Entry]:
    """Return what the request and the workflow's file say of their models."""
    problems: list[Detail] = []
    found: list[Entry] = []
    if job.models is not None:
        found = catalogue.parse(job.models, "models", Origin.REQUEST, problems)
    if problems:
        raise InvalidRequest.of(problems)
    return [*found, *catalogue.of_workflow(resolved.graph)]


def _with_graph(job: Job, resolved: Resolved) -> dict[str, Any]:
    """Hand the editor's file on: ComfyUI embeds it in results, and some nodes read it."""
    if resolved.graph is None:
        return job.extra_data
    # What the caller sends there by itself goes before it.
    pnginfo = {"workflow": resolved.graph, **job.extra_data.get("extra_pnginfo", {})}
    return {**job.extra_data, "extra_pnginfo": pnginfo}


def _tell(context: JobContext, now: Progress) -> None:
    percent = now.done * 100 // now.total if now.total else 0
    context.say(str(now), min(100, percent))
