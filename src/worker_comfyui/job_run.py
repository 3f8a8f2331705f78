"""One job from start to end: read inputs → wait for the turn → execute → collect → deliver."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker_comfyui import logs, strict
from worker_comfyui.comfyui import outcome, outputs, rejection
from worker_comfyui.comfyui.client import ComfyClient, PromptRefused
from worker_comfyui.comfyui.execution import Executed, Execution
from worker_comfyui.comfyui.node_problems import Context, node_problems
from worker_comfyui.comfyui.outputs import Artifact, Outputs
from worker_comfyui.comfyui.supervisor import Incarnation, Supervisor
from worker_comfyui.comfyui.tracking import Tracker, Update
from worker_comfyui.comfyui.workflow_changes import not_from_cache, with_output_folder
from worker_comfyui.config import Settings
from worker_comfyui.delivery import delivery
from worker_comfyui.delivery.bucket import Bucket
from worker_comfyui.delivery.delivery import Fetched
from worker_comfyui.errors import (
    ComfyCrashed,
    ComfyUnavailable,
    ExecutionInterrupted,
    JobError,
    OutputMissing,
    ResultTooLarge,
    StartError,
    sentence,
)
from worker_comfyui.job import InputFile, Job, Workflow
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
READERS = 4


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

    files: list[Fetched] = field(default_factory=list)
    texts: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class _FilesGone(Exception):
    """ComfyUI reported cached files, which were removed after an earlier job.

    `nodes` are all that must run again: what the others saved is removed by now as well.
    """

    def __init__(self, nodes: set[str]) -> None:
        super().__init__()
        self.nodes = nodes


class _Laps:
    """Milliseconds of each part of the job, and of the whole."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()
        self._parts: dict[str, int] = {}

    def end(self, part: str) -> None:
        now = time.monotonic()
        self._parts[f"{part}_ms"] = round((now - self._last) * 1000)
        self._last = now

    @property
    def timings(self) -> dict[str, int]:
        return {**self._parts, "total_ms": round((self._last - self._start) * 1000)}


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
        laps = _Laps()
        bucket = self._own_bucket()
        with tempfile.TemporaryDirectory(
            prefix=f"{self._name}-", ignore_cleanup_errors=True
        ) as scratch:
            files = self._read_inputs()
            laps.end("inputs")
            with self._shared.turns.turn(self._stop):
                laps.end("wait")
                self._stop.start_clock(self._job.timeout_s or self._settings.job_timeout_s)
                collected = self._execute(files, Path(scratch))
                laps.end("execution")
            del files
            result = self._deliver(collected, bucket, limit_bytes)
            laps.end("delivery")
        return {**result, "timings": laps.timings}

    def _read_inputs(self) -> list[tuple[str, bytes]]:
        failed = threading.Event()

        def read(file: InputFile) -> tuple[str, bytes]:
            data = inputs.read(
                file, self._settings, lambda: failed.is_set() or self._stop.cancelled()
            )
            if file.field == "image":
                inputs.check_image(data, file, self._settings)
            return file.name, data

        if not self._job.files:
            return []
        with ThreadPoolExecutor(min(READERS, len(self._job.files))) as pool:
            reading = [pool.submit(read, file) for file in self._job.files]
            ended, others = wait(reading, return_when=FIRST_EXCEPTION)
            if others:  # one cannot be read: nobody needs the rest
                failed.set()
                pool.shutdown(cancel_futures=True)
                reading = list(ended)
        return [done.result() for done in reading]

    def _execute(self, files: list[tuple[str, bytes]], scratch: Path) -> _Collected:
        """Run the workflow, once more if ComfyUI died, and fetch what it made."""
        for run in range(1, RUNS + 1):
            incarnation = self._ready()
            workspace = Workspace(incarnation.folders, self._name, scratch)
            try:
                with (
                    self._supervisor.in_use(incarnation),
                    ComfyClient(incarnation.address) as client,
                ):
                    collected = self._run(client, incarnation, workspace, files)
            except ComfyUnavailable as error:
                lost = self._lost(error, incarnation)
                log.warning(str(lost), extra={"event": "comfyui_lost", "run": run})
                ended = self._supervisor.failure(incarnation)
                if ended and not ended.run_again:
                    lost.retryable = False
                    raise lost from error
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
                if ended := self._supervisor.failure(incarnation):
                    return ComfyCrashed(ended.reason)
                if answers:
                    return error
                self._stop.check()
                time.sleep(LOOK_S)

    def _run(
        self,
        client: ComfyClient,
        incarnation: Incarnation,
        workspace: Workspace,
        files: list[tuple[str, bytes]],
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
            self._supervisor.workflow_ended(incarnation)
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
            raise _FilesGone({artifact.node_id for artifact in found.artifacts})
        lost = [
            {"node_id": a.node_id, "message": f"reported the file {a.path}, which is not there"}
            for a in missing
        ]
        problems = [*found.problems, *lost]
        if problems and not files:
            raise failure or OutputMissing(
                f"node {problems[0]['node_id']}: {problems[0]['message']}", problems
            )
        return _Collected(
            [Fetched(artifact, path) for artifact, path in files],
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
            nodes = ", ".join(dict.fromkeys(a.node_id for a in found.temporary))
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
        bucket = Bucket.from_s3_config(config, self._settings) if config else self._shared.bucket
        delivery.check(self._job.output, bucket)
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
            cancelled=self._stop.cancelled,
        ).deliver(collected.files)
        result |= delivered.lists
        if not delivered.lists:  # as the existing worker says it
            result |= {"status": "success_no_images", "images": []}
        if warnings := [*collected.warnings, *delivered.warnings]:
            result["errors"] = warnings
        return result


def _may_be_of(artifact: Artifact, nodes: set[str], workflow: Workflow) -> bool:
    """Tell whether one of the nodes, or one that it made while it ran, reported the artifact."""
    return artifact.node_id in nodes or not nodes <= workflow.keys()
