"""Every error that a caller or an operator can meet.

The classes are the public error table: a class is a row; its docstring says what happened, its
attributes are the other columns.

    WorkerError
    ├── JobError                      ends one job; becomes the job's result
    │   ├── InvalidRequest            INVALID_REQUEST
    │   ├── InvalidWorkflow           INVALID_WORKFLOW
    │   ├── InputTooLarge             INPUT_TOO_LARGE
    │   ├── InputUnavailable          INPUT_UNAVAILABLE
    │   ├── ModelRefused              MODEL_REFUSED
    │   ├── ModelUnavailable          MODEL_UNAVAILABLE
    │   ├── PromptRejected            PROMPT_REJECTED
    │   ├── ExecutionFailed           EXECUTION_FAILED
    │   │   └── OutOfMemory           OUT_OF_MEMORY
    │   ├── ExecutionInterrupted      INTERRUPTED
    │   ├── TimedOut                  TIMED_OUT
    │   ├── ComfyUnavailable          COMFYUI_UNAVAILABLE
    │   │   └── ComfyCrashed          COMFYUI_CRASHED
    │   ├── OutputMissing             OUTPUT_MISSING
    │   ├── ResultTooLarge            RESULT_TOO_LARGE
    │   ├── ResultRefused             RESULT_REFUSED
    │   ├── DeliveryFailed            DELIVERY_FAILED
    │   ├── DiskFull                  DISK_FULL
    │   └── InternalError             INTERNAL_ERROR
    └── StartError                    the worker cannot start; exit code 1
        ├── ConfigurationError        CONFIGURATION_ERROR
        └── ComfyStartFailed          COMFYUI_START_FAILED
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

Detail = dict[str, Any]
"""One problem: always `message`; `path` in the request, or `node_id`, `class_type`, `input`."""


def sentence(detail: Detail) -> str:
    """Say a problem in one sentence: where in the workflow, and what."""
    where = ""
    if "node_id" in detail:
        where = f"node {detail['node_id']}"
        if "class_type" in detail:
            where += f" ({detail['class_type']})"
        if "input" in detail:
            where += f", input `{detail['input']}`"
        where += ": "
    return f"{where}{detail['message']}"


class WorkerError(Exception):
    """A failure that has a public code.

    Attributes:
        code: Stable name, part of the API.
        hint: What to do about it, in general.
        retryable: Whether the same request may succeed when it is sent again unchanged.
        message: What happened this time: one sentence or a few, safe to show to the caller.
        details: The single problems, when there is more to tell than one sentence.
    """

    code: ClassVar[str]
    hint: ClassVar[str]
    retryable: bool = False

    def __init__(self, message: str, details: Sequence[Detail] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = list(details)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class JobError(WorkerError):
    """Ends one job; the worker goes on."""

    def as_result(self) -> dict[str, Any]:
        """Shape it for the SDK: it posts `error` as the job's error, the rest as its output."""
        result: dict[str, Any] = {
            "error": str(self),
            "error_code": self.code,
            "retryable": self.retryable,
        }
        if self.details:
            result["details"] = self.details
        return result

    @classmethod
    def at(cls, path: str, message: str) -> Self:
        """Make the error of one field of the request, which both sentence and details name."""
        return cls(f"{path}: {message}", [{"path": path, "message": message}])


class InvalidRequest(JobError):
    """A field of the request is missing, unknown or has a value that cannot be used."""

    code = "INVALID_REQUEST"
    hint = "Each entry of `details` names the field by its path; correct it and send it again."


class InvalidWorkflow(JobError):
    """`workflow` is not a workflow in ComfyUI's API format."""

    code = "INVALID_WORKFLOW"
    hint = "Export it in ComfyUI with File → Export (API) and send that file's content."


class InputTooLarge(JobError):
    """An input file has more bytes, or an input image more pixels, than the worker accepts."""

    code = "INPUT_TOO_LARGE"
    hint = (
        "Send smaller or fewer files, or raise MAX_INPUT_MB, MAX_INPUTS_MB or MAX_INPUT_MEGAPIXELS "
        "on the endpoint."
    )


class InputUnavailable(JobError):
    """An input URL could not be downloaded."""

    code = "INPUT_UNAVAILABLE"
    hint = "Check that the URL is still valid and needs no login."
    retryable = True


class ModelRefused(JobError):
    """A model that the workflow names may not be fetched, or is not what it should be."""

    code = "MODEL_REFUSED"
    hint = "The message says what to do: another link, a token, a setting of the endpoint."


class ModelUnavailable(JobError):
    """A model that the workflow names could not be fetched now."""

    code = "MODEL_UNAVAILABLE"
    hint = "Send the request again: what was fetched so far is kept, and it goes on from there."
    retryable = True


class PromptRejected(JobError):
    """ComfyUI refused the workflow before running it."""

    code = "PROMPT_REJECTED"
    hint = "`details` names each node and input with what was received and what is allowed."


class ExecutionFailed(JobError):
    """A node raised an error while the workflow ran."""

    code = "EXECUTION_FAILED"
    hint = "`details` names the node and its exception; the worker's log has the traceback."


class OutOfMemory(ExecutionFailed):
    """The GPU (or the machine) had too little memory for the workflow."""

    code = "OUT_OF_MEMORY"
    hint = "Use a smaller image, batch or model, or an endpoint with a larger GPU."


class ExecutionInterrupted(JobError):
    """The workflow was interrupted before it ended, but not by this job's caller."""

    code = "INTERRUPTED"
    hint = "Send the request again."
    retryable = True


class TimedOut(JobError):
    """The job reached its deadline (`timeout_s`, or JOB_TIMEOUT_S of the endpoint)."""

    code = "TIMED_OUT"
    hint = "Allow more time, or make the workflow smaller."


class ComfyUnavailable(JobError):
    """ComfyUI runs but did not answer as it should."""

    code = "COMFYUI_UNAVAILABLE"
    hint = "Send the request again; if it stays, look at ComfyUI's lines in the worker's log."
    retryable = True


class ComfyCrashed(ComfyUnavailable):
    """ComfyUI died while it ran the workflow, also when it was run once more."""

    code = "COMFYUI_CRASHED"
    hint = (
        "Most often memory ran out: see the worker's log, and use a smaller workflow or more RAM."
    )


class OutputMissing(JobError):
    """ComfyUI reported output files, but none of them can be read."""

    code = "OUTPUT_MISSING"
    hint = "`details` names the files and their nodes; a custom node may write elsewhere."


class ResultTooLarge(JobError):
    """The result has more bytes than the platform takes, and no bucket is configured."""

    code = "RESULT_TOO_LARGE"
    hint = (
        "Configure a bucket, ask for `output.format` jpeg or webp, or make fewer or smaller files."
    )


class ResultRefused(JobError):
    """The platform did not take the job's result."""

    code = "RESULT_REFUSED"
    hint = "The message has the platform's answer; lower MAX_RESULT_MB if it speaks of the size."


class DeliveryFailed(JobError):
    """The bucket did not take the files, and they are too large to be returned inline."""

    code = "DELIVERY_FAILED"
    hint = "Check the bucket's address, keys and permissions; the message has its answer."
    retryable = True


class DiskFull(JobError):
    """The worker's disk is full."""

    code = "DISK_FULL"
    hint = "Give the endpoint a larger container disk."
    retryable = True


class InternalError(JobError):
    """The worker met a situation that it does not know; this is a defect of the worker."""

    code = "INTERNAL_ERROR"
    hint = "Please report it with the worker's log; the log has the traceback."
    retryable = True


class StartError(WorkerError):
    """Keeps the worker from starting."""


class ConfigurationError(StartError):
    """Environment variables of the endpoint are wrong or contradict each other."""

    code = "CONFIGURATION_ERROR"
    hint = "The message lists every problem with the variable's name."


class ComfyStartFailed(StartError):
    """ComfyUI ended before it was ready, or was not ready in time."""

    code = "COMFYUI_START_FAILED"
    hint = "The message has the last lines of ComfyUI's log."


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn a full disk into its own error.

    Raises:
        DiskFull: the block wrote to a disk that is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull("no space is left on the worker's disk for the job's files") from error
        raise


def public_errors() -> Iterator[type[WorkerError]]:
    """Yield every class that has a code, in the order of the tree above."""

    def walk(parent: type[WorkerError]) -> Iterator[type[WorkerError]]:
        for child in parent.__subclasses__():
            if "code" in vars(child):
                yield child
            yield from walk(child)

    return walk(WorkerError)
