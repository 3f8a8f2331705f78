"""One attempt: the workflow runs once on one ComfyUI, and what it made is taken out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from worker_comfyui.comfyui import cache_keys, ending, outputs, rejection
from worker_comfyui.comfyui.client import PromptRefused
from worker_comfyui.comfyui.events import Event
from worker_comfyui.comfyui.execution import Executed, Execution
from worker_comfyui.comfyui.file_problems import outside
from worker_comfyui.comfyui.live import Live
from worker_comfyui.comfyui.outputs import Outputs
from worker_comfyui.comfyui.pictures import Pictures
from worker_comfyui.comfyui.tracking import Tracker
from worker_comfyui.comfyui.workspace import Taken
from worker_comfyui.job import Workflow
from worker_comfyui.run.context import JobContext, Place


@dataclass(frozen=True, slots=True)
class Attempted:
    """What an attempt left.

    Attributes:
        executed: How the prompt went.
        reported: What its nodes reported.
        taken: The files, out of ComfyUI's folders.
        silent: Output nodes that reported nothing: they may have sent it over the websocket.
    """

    executed: Executed
    reported: Outputs
    taken: Taken
    silent: frozenset[str] = frozenset()

    def found_files_gone(self, workflow: Workflow) -> bool:
        """Tell whether ComfyUI's cache named files that left its folders after an earlier job."""
        cached = ending.cached_nodes(self.executed.entry)
        # A node that a cached one made while it ran has an id of its own.
        made_others = not cached <= workflow.keys()
        gone = any(file.node_id in cached or made_others for file in self.taken.missing)
        return gone and ending.failure(self.executed.entry) is None

    def nodes(self) -> set[str]:
        """Return the nodes that reported a file."""
        files = (*self.reported.artifacts, *self.reported.temporary)
        return {file.node_id for file in files if file.node_id is not None}


def attempt(context: JobContext, place: Place, again: Collection[str] = ()) -> Attempted:
    """Run the workflow once.

    Args:
        context: The job.
        place: Where to run it.
        again: Nodes that must run, whatever ComfyUI has of them in its cache.

    Raises:
        PromptRejected: ComfyUI does not run it.
        ExecutionFailed: it ended, but ComfyUI cannot say how.
        ComfyUnavailable: ComfyUI was lost.
        JobCancelled, TimedOut: it was to stop.
        DiskFull: there is no space for what it made.
    """
    shared, job = context.shared, context.job
    execution = Execution(place.link, shared.supervisor, shared.settings, context.stop)
    # Before it runs: what fails in between may leave the prompt in the queue.
    place.ends.callback(execution.end)
    output_nodes = place.link.classes.output_nodes(job.workflow)
    if leading_out := outside(job.workflow, place.link.classes.get, place.contents):
        raise rejection.rejected(leading_out)
    workflow = place.link.cache_keys.marked(
        job.workflow,
        output_nodes=output_nodes,
        contents=place.contents,
        mark=execution.prompt_id,
    )
    workflow = cache_keys.with_marks(workflow, dict.fromkeys(again, execution.prompt_id))
    pictures = Pictures(output_nodes, place.workspace.new_path)
    tracker = Tracker(job.workflow)
    live = Live() if job.output.live else None

    def on_event(event: Event) -> None:
        kept = pictures.take(event)
        update = tracker.update(event)
        if live is not None:
            update = live.update(event, update, kept)
        if update:
            context.report(update)

    try:
        executed = execution.run(workflow, _extra_data(context), on_event)
    except PromptRefused as refused:
        raise rejection.explain(refused.answer, place.lookup) from refused
    failure = ending.failure(executed.entry)
    said = failure.message if failure else None
    shared.supervisor.workflow_ended(place.link.incarnation, said)
    reported = outputs.collect(executed.entry, list(job.workflow))
    taken = place.workspace.take(reported, context.stop, previews=job.output.previews)
    taken.files += pictures.results
    if cache_keys.is_marked(workflow):
        for file in taken.files:
            cache_keys.remove_marks(file.copy)
    silent = frozenset(output_nodes) - outputs.reporting_nodes(executed.entry)
    return Attempted(executed, reported, taken, silent)


def _extra_data(context: JobContext) -> dict[str, Any]:
    # Some custom nodes fail where `extra_pnginfo` is absent.
    extra: dict[str, Any] = {"extra_pnginfo": {}, **context.job.extra_data}
    if context.job.output.live:
        # ComfyUI since 0.5.0 (execution.py); an older one looks at its flag --preview-method alone.
        extra.setdefault("preview_method", "auto")
    key = context.job.comfy_org_api_key or context.shared.settings.comfy_org_api_key
    if key:
        extra["api_key_comfy_org"] = key.value
    return extra
