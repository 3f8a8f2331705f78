"""One job: its states, its times, and how clients see it. Pure: the time is always passed in.

```
IN_QUEUE ──start──▶ IN_PROGRESS ──finish──▶ COMPLETED | FAILED ──requeue──▶ IN_QUEUE
    ▲                    │  └─────cancel──▶ CANCELLED
    └──────requeue───────┘  └─────expire──▶ TIMED_OUT   (cancel and expire: from IN_QUEUE too)
```
The shapes are those of https://docs.runpod.io/serverless/endpoints/operation-reference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from local_runpod.bell import Bell


class Status(StrEnum):
    """A job's state, as clients know it."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"

    @property
    def is_final(self) -> bool:
        """Whether the job is over."""
        return self not in {Status.IN_QUEUE, Status.IN_PROGRESS}


RETRYABLE = frozenset({Status.FAILED, Status.TIMED_OUT})


@dataclass(kw_only=True, eq=False)
class Job:
    """A job and everything that happened to it. Times are seconds of one monotonic clock."""

    id: str
    request: Mapping[str, Any]  # what the worker gets: input, and webhook, s3Config, policy if sent
    sync: bool  # from /runsync
    size: int  # bytes of the request
    queued_at: float
    execution_timeout: float
    ttl: float
    status: Status = Status.IN_QUEUE
    started_at: float | None = None
    ended_at: float | None = None
    worker_id: str | None = None
    retries: int = 0
    output: Any = None  # of a running job: its newest progress
    error: str | None = None
    result_size: int = 0
    stream: list[Any] = field(default_factory=list)  # yields that no client has had yet
    changed: Bell = field(default_factory=Bell)

    @property
    def webhook(self) -> str | None:
        """The address that wants to know the job's end."""
        return self.request.get("webhook")

    @property
    def expires_at(self) -> float:
        """When the whole life of the job is over, in whatever state."""
        return self.queued_at + self.ttl

    @property
    def overruns_at(self) -> float:
        """When a running job has used up its execution time."""
        return float("inf") if self.started_at is None else self.started_at + self.execution_timeout

    def start(self, worker_id: str, now: float) -> None:
        """A worker takes the job."""
        self.status = Status.IN_PROGRESS
        self.worker_id = worker_id
        self.started_at = now
        self.changed.ring()

    def progress(self, output: Any) -> None:
        """The worker reports progress: the newest value is the running job's output."""
        self.output = output
        self.changed.ring()

    def add_to_stream(self, chunk: Any) -> None:
        """The worker yields a part of its output."""
        self.stream.append(chunk)
        self.changed.ring()

    def finish(self, output: Any, error: str | None, now: float, size: int = 0) -> None:
        """The worker posts its result; with an error the job failed."""
        self.output = output
        self.error = error
        self.result_size = size
        self._end(Status.COMPLETED if error is None else Status.FAILED, now)

    def fail(self, error: str, now: float) -> None:
        """The platform ends the job: no output is left of it."""
        self.finish(None, error, now)

    def cancel(self, now: float) -> None:
        """The client wants no result any more."""
        self.output = None
        self._end(Status.CANCELLED, now)

    def expire(self, now: float) -> None:
        """The job's time to live is over."""
        self.output = None
        self._end(Status.TIMED_OUT, now)

    def requeue(self) -> None:
        """Wait for a worker again; the attempt is forgotten, the delay is not."""
        self.status = Status.IN_QUEUE
        self.started_at = self.ended_at = self.worker_id = None
        self.output = self.error = None
        self.result_size = 0
        self.stream.clear()
        self.changed.ring()

    def restart(self, now: float) -> None:
        """Begin anew on the client's wish, as if it had been submitted now."""
        self.requeue()
        self.queued_at = now
        self.retries = 0

    def _end(self, status: Status, now: float) -> None:
        self.status = status
        self.ended_at = now
        self.changed.ring()

    def view(self) -> dict[str, Any]:
        """The object of `/status` and `/runsync`: absent means absent, never null."""
        fields: dict[str, Any] = {"id": self.id, "status": self.status.value}
        if self.started_at is not None:
            fields["delayTime"] = round((self.started_at - self.queued_at) * 1000)
            fields["workerId"] = self.worker_id
            if self.ended_at is not None:
                fields["executionTime"] = round((self.ended_at - self.started_at) * 1000)
        if self.retries:
            fields["retries"] = self.retries
        if self.output is not None:
            fields["output"] = self.output
        if self.error is not None:
            fields["error"] = self.error
        return dict(sorted(fields.items()))  # the order in which hosted answers have them

    def webhook_body(self) -> dict[str, Any]:
        """What a webhook gets: the status object, the input and the webhook's own address."""
        body = {**self.view(), "input": self.request.get("input"), "webhook": self.webhook}
        return dict(sorted(body.items()))


def error_text(error: Any) -> str:
    """Make the string that clients expect of whatever a handler put under `error`."""
    return error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
