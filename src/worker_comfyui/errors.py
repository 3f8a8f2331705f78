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
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self, TypedDict

from worker_comfyui.strict import clean
from worker_comfyui.wording import shortened, shortened_all

MAX_RESULT_BYTES = 64_000
"""Of an error as a job's result."""
MAX_SENTENCE = 4_000
"""Characters of its sentence, each at most 12 bytes in JSON."""
MAX_STRING = 1_000
"""Characters of any text in its details."""
MAX_LOGGED = 20
"""Problems of one job that are named in the log."""
ENVELOPE_BYTES = 1_000
"""What stands around sentence and details, and a note of what is left out."""


class Detail(TypedDict, total=False):
    """One problem, as it stands in `details` of an error: always a `message`, and where it is."""

    message: str
    """What is wrong, and what to do."""
    path: str
    """The place in the request."""
    node_id: str
    """The node in the caller's workflow."""
    class_type: str
    """Its class."""
    title: str
    """What its author calls it."""
    pack: str
    """The pack of custom nodes that has its class, as far as the workflow's file says."""
    input: str
    """Its input."""
    received: Any
    """What was sent there."""
    allowed: Any
    """What may be sent there: a list, or a sentence."""
    did_you_mean: str
    """The allowed value that is most like it."""
    exception_type: str
    """Of the error that the node raised."""
    allowed_count: int
    """How many values are allowed, where `allowed` has the first of them only."""
    found_at: list[str]
    """Files of the name that was sent, where they are not looked for."""
    hint: str
    """What to do about it."""


def sentence(detail: Detail) -> str:
    """Say a problem in one sentence: where in the workflow or the request, and what."""
    where = f"{detail['path']}: " if "path" in detail else ""
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
        """Shape it for the SDK: it posts `error` as the job's error, the rest as its output.

        Whatever it quotes, it has at most `MAX_RESULT_BYTES` as JSON: the platform refuses what is
        too large, and a failed job would look like one that made nothing.
        """
        result: dict[str, Any] = {
            "error": shortened(str(self), MAX_SENTENCE),
            "error_code": self.code,
            "retryable": self.retryable,
        }
        if self.details:
            left = MAX_RESULT_BYTES - ENVELOPE_BYTES - len(json.dumps(clean(result)))
            result["details"] = _bounded(self.details, left)
        return result

    def for_log(self) -> dict[str, list[str]]:
        """Name the first problems for the log, where the error's own sentence has only one."""
        if len(self.details) < 2:
            return {}
        first = self.details[:MAX_LOGGED]
        return {"details": [shortened(sentence(detail), MAX_STRING) for detail in first]}

    @classmethod
    def at(cls, path: str, message: str) -> Self:
        """Make the error of one field of the request, which both sentence and details name."""
        return cls.of([{"path": path, "message": message}])

    @classmethod
    def of(cls, details: Sequence[Detail], left_out: int = 0, *, at_least: bool = False) -> Self:
        """Make the error of one or more problems: it says the first, and how many more there are.

        Args:
            details: The problems.
            left_out: How many further ones are only counted.
            at_least: Whether the search ended before all were found.
        """
        more = len(details) - 1 + left_out
        message = sentence(details[0])
        if more:
            least = "at least " if at_least else ""
            message += f" (and {least}{more} more problem{'s' if more > 1 else ''}, see `details`)"
        return cls(message, details)


class InvalidRequest(JobError):
    """A field of the request is missing, unknown or has a value that cannot be used."""

    code = "INVALID_REQUEST"
    hint = "Each entry of `details` names the field by its path; correct it and send it again."


class InvalidWorkflow(JobError):
    """`workflow` is no workflow, neither the editor's file nor the API format."""

    code = "INVALID_WORKFLOW"
    hint = "Send the content of a workflow file: File → Save or File → Export (API) in ComfyUI."


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


def _bounded(details: Sequence[Detail], left: int) -> list[Detail]:
    """Keep as many details, their texts cut, as have `left` bytes together."""
    bounded: list[Any] = []
    for number, detail in enumerate(details):
        cut = clean(shortened_all(dict(detail), MAX_STRING))
        left -= len(json.dumps(cut)) + 2
        if left < 0:
            bounded.append({"message": f"{len(details) - number} more problems are left out"})
            break
        bounded.append(cut)
    return bounded


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn a full disk into its own error.

    Raises:
        DiskFull: the block wrote to a disk that is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:  # a network volume has a quota
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
