"""One job from start to end: read inputs → wait for the turn → execute → collect → deliver."""

from __future__ import annotations

import logging
import tempfile
import time
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker_comfyui import logs, strict
from worker_comfyui.comfyui import outcome, outputs, rejection
from worker_comfyui.comfyui.client import ComfyClient, PromptRefused
from worker_comfyui.comfyui.execution import Executed, Execution
from worker_comfyui.comfyui.node_problems import Context, node_problems
from worker_comfyui.comfyui.outputs import Outputs
from worker_comfyui.comfyui.supervisor import Incarnation, Supervisor
from worker_comfyui.comfyui.tracking import Tracker, Update
from worker_comfyui.comfyui.workflow_changes import not_from_cache, with_output_folder
from worker_comfyui.config import Settings
from worker_comfyui.delivery import delivery, presigned
from worker_comfyui.delivery.bucket import Bucket
from worker_comfyui.errors import (
    ComfyCrashed,
    ComfyUnavailable,
    Detail,
    ExecutionInterrupted,
    JobError,
    OutputMissing,
    ResultTooLarge,
    StartError,
    sentence,
)
from worker_comfyui.job import FetchedInput, Job, Workflow
from worker_comfyui.media.output_file import OutputFile
from worker_comfyui.request import inputs
from worker_comfyui.stop import JobCancelled, Stop
from worker_comfyui.turn import Turns
from worker_comfyui.volume.missing_models import MissingModels
from worker_comfyui.workspace import Workspace

log = logging.getLogger(__name__)

MEGA = 1_000_000
RUNS = 2
"""A job that loses its ComfyUI is run once more."""
PING_TIMEOUT_S = 1.0
LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all jobs of a worker share."""

    settings: Settings
    supervisor: Supervisor
    turns: Turns
    bucket: Bucket | None


@dataclass(slots=True)
class _Collected:
    """What a run of the workflow left for delivery."""

    files: list[OutputFile] = field(default_factory=list)
    texts: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class _FilesGone(Exception):
    """ComfyUI reported cached files, which were removed after an earlier job.

    `nodes` are all that must run again: what the others saved is removed by now as well.
    """

    def __init__(self, nodes: set[str]) -> None:
        super().__init__()
        self.nodes = nodes


class JobRun:
    """Runs one job. An instance is used once, by one thread."""

    def __init__(
        self, shared: Surroundings, job: Job, stop: Stop, report: Callable[[Update], None]
    ) -> None:
        self._settings = shared.settings
        self._supervisor = shared.supervisor
        self._shared = shared
        self._job = job
        self._stop = stop
        self._report = report
        self._name = f"job-{uuid.uuid4().hex[:12]}"

    def result(self, limit_bytes: int) -> dict[str, Any]:
        """Run it, and return its result within `limit_bytes` of JSON.

        Raises:
            JobError: the job failed.
            JobCancelled: the job was cancelled.
        """
        stop = self._stop
        stop.limit(self._job.timeout_s or self._settings.job_timeout_s)
        bucket = self._own_bucket()
        with tempfile.TemporaryDirectory(
            prefix=f"{self._name}-", ignore_cleanup_errors=True
        ) as scratch:
            stop.phase("inputs")
            folder = Path(scratch) / "inputs"
            folder.mkdir()
            files = inputs.fetch(self._job.files, folder, self._settings, stop)
            stop.phase("wait")
            with self._shared.turns.turn(stop):
                stop.phase("execution")
                collected = self._execute(files, Path(scratch))
            stop.phase("delivery")
            odd = [*self._job.warnings, *(file.warning for file in files if file.warning)]
            collected.warnings[:0] = odd
            result = self._deliver(collected, bucket, limit_bytes)
        return {**result, "timings": stop.timings}

    def _execute(self, files: list[FetchedInput], scratch: Path) -> _Collected:
        """Run the workflow, once more if ComfyUI died, and fetch what it made."""
        for run in range(1, RUNS + 1):
            incarnation = self._ready()
            workspace = Workspace(incarnation.folders, self._name, scratch)
            try:
                with ComfyClient(incarnation.address) as client:
                    collected = self._run(client, incarnation, workspace, files)
            except ComfyUnavailable as error:
                lost = self._lost(error, incarnation)
                log.warning(str(lost), extra={"event": "comfyui_lost", "run": run})
                if run == RUNS:
                    raise type(lost)(f"{lost.message} (in both of {RUNS} runs)") from error
            else:
                return collected
            finally:
                workspace.unstage()
        raise AssertionError("the loop returns or raises")

    def _ready(self) -> Incarnation:
        try:
            incarnation = self._supervisor.wait_ready(self._stop.is_due)
        except StartError as error:
            raise ComfyCrashed(error.message) from error
        self._stop.check()
        if incarnation is None:
            raise JobCancelled
        return incarnation

    def _lost(self, error: ComfyUnavailable, incarnation: Incarnation) -> ComfyUnavailable:
        """Wait until it is clear whether ComfyUI is gone, as the supervisor notices, or is back."""
        if isinstance(error, ComfyCrashed):
            return error
        with ComfyClient(incarnation.address, timeout_s=PING_TIMEOUT_S) as client:
            while True:
                answers = client.is_ready()
                if reason := self._supervisor.failure(incarnation):
                    return ComfyCrashed(reason)
                if answers:
                    return error
                self._stop.check()
                time.sleep(LOOK_S)

    def _run(
        self,
        client: ComfyClient,
        incarnation: Incarnation,
        workspace: Workspace,
        files: list[FetchedInput],
    ) -> _Collected:
        workspace.stage(client, files)
        try:
            return self._run_once(client, incarnation, workspace)
        except _FilesGone as gone:
            log.info("ComfyUI reports cached files that are gone: running their nodes again")
            return self._run_once(client, incarnation, workspace, again=gone.nodes)

    def _run_once(
        self,
        client: ComfyClient,
        incarnation: Incarnation,
        workspace: Workspace,
        *,
        again: Collection[str] = (),
    ) -> _Collected:
        tracker = Tracker(self._job.workflow)
        execution = Execution(
            self._settings,
            self._supervisor,
            incarnation,
            self._stop,
            lambda event: self._progress(tracker, event),
        )
        workflow = with_output_folder(self._job.workflow, self._name)
        workflow = not_from_cache(workflow, again, execution.prompt_id)
        found: Outputs | None = None
        try:
            with logs.fields(prompt_id=execution.prompt_id):
                executed = execution.run(workflow, self._extra_data())
            self._supervisor.succeeded()
            found = outputs.collect(executed.entry, list(self._job.workflow))
            return self._collect(client, executed, found, workspace, last=bool(again))
        except PromptRefused as refused:
            found = Outputs()
            raise rejection.explain(refused.answer, self._context(client)) from refused
        finally:
            with suppress(ComfyUnavailable):
                if found is None and (entry := client.history(execution.prompt_id)):
                    found = outputs.collect(entry, list(self._job.workflow))  # stopped half-way
            with suppress(ComfyUnavailable):
                client.forget(execution.prompt_id)
            workspace.remove_outputs(found)

    def _extra_data(self) -> dict[str, Any]:
        # Some custom nodes fail where `extra_pnginfo` is absent.
        extra: dict[str, Any] = {"extra_pnginfo": {}}
        key = self._job.comfy_org_api_key or self._settings.comfy_org_api_key
        if key:
            extra["api_key_comfy_org"] = key.value
        return extra

    def _progress(self, tracker: Tracker, event: Any) -> None:
        update = tracker.update(event)
        if update:
            self._report(update)

    def _collect(
        self,
        client: ComfyClient,
        executed: Executed,
        found: Outputs,
        workspace: Workspace,
        *,
        last: bool,
    ) -> _Collected:
        """Fetch the files. An error of the workflow counts only where it left no files."""
        failure = outcome.failure(executed.entry)
        if failure and (isinstance(failure, ExecutionInterrupted) or not found.artifacts):
            raise failure
        files, missing = workspace.fetch(client, found.artifacts, self._stop.cancelled)
        cached = outcome.cached_nodes(executed.entry)
        stale = any(_may_be_of(artifact, cached, self._job.workflow) for artifact in missing)
        if stale and failure is None and not last:
            raise _FilesGone({a.node_id for a in found.artifacts if a.node_id is not None})
        lost = [
            Detail(
                node_id=str(a.node_id), message=f"reported the file {a.name}, which is not there"
            )
            for a in missing
        ]
        problems = [*found.problems, *lost]
        if problems and not files:
            raise failure or OutputMissing(
                f"node {problems[0]['node_id']}: {problems[0]['message']}", problems
            )
        return _Collected(
            files,
            list(found.texts),
            [*self._warnings(client, executed, found, failure), *map(sentence, problems)],
        )

    def _warnings(
        self, client: ComfyClient, executed: Executed, found: Outputs, failure: JobError | None
    ) -> list[str]:
        warnings = [str(failure)] if failure else []
        left_out = node_problems(executed.node_errors, self._context(client))
        warnings += [f"left out, since it is not valid: {sentence(p)}" for p in left_out]
        warnings += [
            f"node {b.node_id} ({b.class_type}) blocked its branch: {b.message}"
            for b in executed.blocked
        ]
        if found.temporary and not found.artifacts:
            nodes = ", ".join(dict.fromkeys(str(a.node_id) for a in found.temporary))
            warnings.append(
                f"the workflow only previews (node {nodes}), and previews are not returned; "
                "use SaveImage or another node that saves its output"
            )
        return warnings

    def _context(self, client: ComfyClient) -> Context:
        return Context(
            self._job.workflow,
            client.node_class,
            client.node_classes,
            sent=[file.name for file in self._job.files],
            locate=MissingModels(self._settings).locate,
        )

    def _own_bucket(self) -> Bucket | None:
        """Return where files go, and see before any work that they can go there."""
        config = self._job.s3_config
        bucket = (
            Bucket.from_s3_config(config, self._settings, self._stop)
            if config
            else self._shared.bucket
        )
        delivery.check(self._job.output, bucket)
        private = self._settings.allow_private_input_urls
        presigned.check(self._job.output.upload, self._stop, allow_private=private)
        return bucket

    def _deliver(
        self, collected: _Collected, bucket: Bucket | None, limit_bytes: int
    ) -> dict[str, Any]:
        result: dict[str, Any] = {}
        if collected.texts:
            result["texts"] = collected.texts
        text_bytes = strict.size(strict.clean([result, collected.warnings]))
        if text_bytes > limit_bytes:
            raise ResultTooLarge(
                f"the workflow's texts alone have {text_bytes / MEGA:.1f} MB as JSON, and at most "
                f"{limit_bytes / MEGA:.1f} MB can be returned; a text that is saved as a file can "
                "go to a bucket"
            )
        delivered = delivery.Delivery(
            options=self._job.output,
            bucket=bucket,
            job_id=self._job.id,
            job_folder=self._name,
            limit_bytes=limit_bytes - text_bytes,
            stop=self._stop,
            allow_private=self._settings.allow_private_input_urls,
        ).deliver(collected.files)
        result |= delivered.lists
        if not delivered.lists:  # as the existing worker says it
            result |= {"status": "success_no_images", "images": []}
        if warnings := [*collected.warnings, *delivered.warnings]:
            result["errors"] = warnings
        return result


def _may_be_of(artifact: OutputFile, nodes: set[str], workflow: Workflow) -> bool:
    """Tell whether one of the nodes, or one that it made while it ran, reported the artifact."""
    return artifact.node_id in nodes or not nodes <= workflow.keys()
