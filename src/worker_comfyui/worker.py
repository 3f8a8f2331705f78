"""Turns the platform's jobs into results: every job gets one, whatever happens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from worker_comfyui import logs, strict
from worker_comfyui.comfyui.process.supervisor import Supervisor
from worker_comfyui.comfyui.tracking import Update
from worker_comfyui.config import MEGA, Settings
from worker_comfyui.errors import ConfigurationError, InternalError, InvalidRequest, JobError
from worker_comfyui.redaction import Redactor
from worker_comfyui.request import parse as request
from worker_comfyui.request.job_secrets import secrets_of
from worker_comfyui.run import warm_up
from worker_comfyui.run.context import JobContext, Shared
from worker_comfyui.run.job_run import run_job
from worker_comfyui.stop import JobCancelled, Stop

log = logging.getLogger(__name__)

RUNSYNC_LIMIT_MB = 20.0
RUN_LIMIT_MB = 10.0
WITHOUT_SECRETS = frozenset(("images", "videos", "audio", "files", "timings"))
"""Parts of a result in which no text of the caller or of a node stands, but megabytes of base64."""
ENVELOPE_BYTES = 2000
"""What the SDK and this module write around the result, with room to spare."""


class Worker:
    """Runs jobs on one ComfyUI; `run` may be called from several threads at once."""

    def __init__(self, settings: Settings, supervisor: Supervisor, redactor: Redactor) -> None:
        """Make it while ComfyUI starts: what takes time for the first job is done here.

        Raises:
            ConfigurationError: MODEL_CATALOG cannot be used.
        """
        self._settings = settings
        self._supervisor = supervisor
        self._redactor = redactor
        self._shared = Shared.of(settings, supervisor)

    @property
    def is_ready(self) -> bool:
        """Whether a job could start at once, as far as ComfyUI is concerned."""
        return self._supervisor.is_ready

    @property
    def must_retire(self) -> bool:
        """Whether no further job can succeed here."""
        return self._supervisor.gave_up

    def run(
        self,
        raw: Mapping[str, Any],
        cancelled: Callable[[], bool],
        report: Callable[[Update], None],
    ) -> dict[str, Any]:
        """Run one job; return its result, or its error, as strict JSON.

        Args:
            raw: The job as the platform hands it over.
            cancelled: Asked often; when true, the job is stopped.
            report: Called with each step of progress.

        Raises:
            JobCancelled: the job was cancelled; ComfyUI no longer works on it.
        """
        return self._run(raw, Stop(cancelled), report, self._limit_bytes(str(raw.get("id", ""))))

    def _run(
        self,
        raw: Mapping[str, Any],
        stop: Stop,
        report: Callable[[Update], None],
        limit_bytes: int | None,
    ) -> dict[str, Any]:
        job_id = str(raw.get("id", ""))
        with logs.fields(job_id=job_id), self._redactor.knowing(secrets_of(raw)):
            try:
                job = request.parse(raw)
                result = run_job(JobContext(self._shared, job, stop, report), limit_bytes)
                for part in result.keys() - WITHOUT_SECRETS:  # a node may print what it was given
                    result[part] = self._redactor.value(result[part])
                timings = result["timings"]
                log.info(
                    "job done in %.2f s",
                    timings["total_ms"] / 1000,
                    extra={"event": "job_done", "timings": timings},
                )
            except JobCancelled:
                log.info("job cancelled", extra={"event": "job_cancelled"})
                raise
            except JobError as error:
                result = self._failed(error)
            except RecursionError:  # what nests without end is what was sent
                result = self._failed(InvalidRequest("the job is nested too deeply"))
            except Exception as error:
                extra = {"event": "job_failed", "error_code": InternalError.code}
                log.exception("the worker failed", extra=extra)
                result = InternalError(f"{type(error).__name__} in the worker").as_result()
            if self.must_retire:
                result["refresh_worker"] = True  # the SDK's name for it; `results.post` obeys
            return dict(strict.clean(result))

    def _failed(self, error: JobError) -> dict[str, Any]:
        extra = {"event": "job_failed", "error_code": error.code, **error.for_log()}
        # It says all; a record of the error itself would keep its frames alive.
        log.error(str(error), extra=extra)
        result: dict[str, Any] = self._redactor.value(error.as_result())
        return result

    def close(self) -> None:
        """Close the connections to ComfyUI, and read no more models."""
        self._shared.close()

    def preload(self) -> None:
        """Begin to read PRELOAD_MODELS and the warm-up's models into memory; return at once.

        Raises:
            ConfigurationError: WARMUP_WORKFLOW cannot be read.
        """
        self._shared.preload(self._warm_up_input().get("workflow"))

    def warm_up(self) -> None:
        """Run WARMUP_WORKFLOW, so that its models are loaded before the first job comes.

        What it makes goes nowhere.

        Raises:
            ConfigurationError: it cannot be read, or it fails.
        """
        sent = self._warm_up_input()
        if not sent:
            return
        raw = {"id": "warm-up", "input": sent}
        result = self._run(raw, Stop(lambda: False), lambda _: None, limit_bytes=None)
        if "error" in result:
            raise ConfigurationError(f"WARMUP_WORKFLOW failed: {result['error']}")

    def _warm_up_input(self) -> dict[str, Any]:
        path = self._settings.warmup_workflow
        return warm_up.read(path) if path else {}

    def _limit_bytes(self, job_id: str) -> int:
        """Return how large a result may be; the platform has one limit for each way to call it.

        Source: https://docs.runpod.io/serverless/workers/handler-functions (payload limits).
        """
        limit_mb = self._settings.max_result_mb
        if limit_mb is None:
            # A job of /runsync has an id like `sync-<uuid>-u1`, one of /run `<uuid>-u1`.
            limit_mb = RUNSYNC_LIMIT_MB if job_id.startswith("sync-") else RUN_LIMIT_MB
        return int(limit_mb * MEGA) - ENVELOPE_BYTES
