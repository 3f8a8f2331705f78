"""One attempt: the workflow runs once on one ComfyUI, and what it made is taken out.

The turn ends with it, but where the job needs ComfyUI once more.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from worker_comfyui.comfyui import cache_keys, ending, outputs, rejection
from worker_comfyui.comfyui.client import PromptRefused
from worker_comfyui.comfyui.events import Event
from worker_comfyui.comfyui.execution import Executed, Execution
from worker_comfyui.comfyui.file_problems import outside
from worker_comfyui.comfyui.live import Live
from worker_comfyui.comfyui.node_problems import Lookup
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
        workflow: What ran.
        is_marked: Whether marks of the worker's own are in it, and so in its files.
        output_nodes: Those of its nodes that save or show something.
        lookup: What messages about it are made with; it asks ComfyUI.
    """

    executed: Executed
    reported: Outputs
    taken: Taken
    workflow: Workflow
    is_marked: bool
    output_nodes: frozenset[str]
    lookup: Lookup

    def found_files_gone(self) -> bool:
        """Tell whether ComfyUI's cache named files that left its folders after an earlier job."""
        cached = ending.cached_nodes(self.executed.entry)
        # A node that a cached one made while it ran has an id of its own.
        made_others = not cached <= self.workflow.keys()
        gone = any(file.node_id in cached or made_others for file in self.taken.missing)
        return gone and ending.failure(self.executed.entry) is None

    def nodes(self) -> set[str]:
        """Return the nodes that reported a file."""
        files = (*self.reported.artifacts, *self.reported.temporary)
        return {file.node_id for file in files if file.node_id is not None}

    def is_silent(self) -> bool:
        """Tell whether an output node reported nothing: it may have sent it by the websocket."""
        return not self.output_nodes <= outputs.reporting_nodes(self.executed.entry)

    def needs_comfyui(self) -> bool:
        """Tell whether the job needs ComfyUI once more: to run again, or for a message."""
        return self.found_files_gone() or bool(self.executed.node_errors)


def attempt(context: JobContext, place: Place, again: Collection[str] = ()) -> Attempted:
    """Run the workflow once, and end the turn if ComfyUI is not needed any more.

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
    shared = context.shared
    execution = Execution(place.link, shared.supervisor, shared.settings, context.stop)
    # Before it runs: what fails in between may leave the prompt in the queue.
    place.turn.ends.callback(execution.end)
    with closing(execution):
        attempted = _attempted(context, place, execution, again)
        if not attempted.needs_comfyui():
            place.turn.end()
    if attempted.is_marked:
        for file in attempted.taken.files:
            cache_keys.remove_marks(file.copy)
    return attempted


def _attempted(
    context: JobContext, place: Place, execution: Execution, again: Collection[str]
) -> Attempted:
    shared, job, workspace = context.shared, context.job, place.workspace
    output_nodes = place.link.classes.output_nodes(place.workflow)
    if leading_out := outside(place.workflow, place.link.classes.get, place.contents):
        raise rejection.rejected(leading_out)
    workflow = place.link.cache_keys.marked(
        place.workflow,
        output_nodes=output_nodes,
        contents=place.contents,
        mark=execution.prompt_id,
    )
    workflow = cache_keys.with_marks(workflow, dict.fromkeys(again, execution.prompt_id))
    pictures = Pictures(output_nodes, workspace.new_path)
    tracker = Tracker(place.workflow)
    live = Live() if job.output.live else None

    def on_event(event: Event) -> None:
        kept = pictures.take(event)
        update = tracker.update(event)
        if live is not None:
            update = live.update(event, update, kept)
        if update:
            context.report(update)

    def at_rest() -> None:
        workspace.gather(context.stop)
        place.look()

    try:
        executed = execution.run(workflow, _extra_data(context), on_event, at_rest)
    except PromptRefused as refused:
        raise rejection.explain(refused.answer, place.lookup) from refused
    failure = ending.failure(executed.entry)
    said = failure.message if failure else None
    shared.supervisor.workflow_ended(place.link.incarnation, said)
    reported = outputs.collect(executed.entry, list(place.workflow), workspace.folders)
    taken = workspace.take(reported, context.stop, previews=job.output.previews)
    taken.files += pictures.results
    return Attempted(
        executed,
        reported,
        taken,
        place.workflow,
        cache_keys.is_marked(workflow),
        frozenset(output_nodes),
        place.lookup,
    )


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
