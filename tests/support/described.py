"""Notes what a platform is asked and answers, and holds it against docs/openapi.json.

It listens inside the platform: so whoever asks, a test, curl, the page or RunPod's SDK, is heard.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from local_runpod.gateway.gateway import Gateway
from local_runpod.jobs.job import Job, Status
from local_runpod.jobs.job_queue import JobQueue
from local_runpod.json_text import dump
from local_runpod.web.routing import Address

DOCUMENT: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "openapi.json").read_text()
)
PATHS = {Address.of(path).operation: methods for path, methods in DOCUMENT["paths"].items()}
_VALIDATORS: dict[str, Draft202012Validator] = {}


def validator(name: str) -> Draft202012Validator:
    """The validator of one of the document's schemas, made once."""
    if name not in _VALIDATORS:
        _VALIDATORS[name] = Draft202012Validator(
            {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
        )
    return _VALIDATORS[name]


def check(name: str, value: Any, where: str = "") -> None:
    """Fail where a value is not as the schema says."""
    error = best_match(validator(name).iter_errors(value))
    if error is not None:
        raise AssertionError(f"{where or name}: {error.json_path}: {error.message[:2000]}")


def check_job(job: dict[str, Any]) -> None:
    """Fail where a job is not as described; what one that is over has made must be a result."""
    check("Job", job, f"job {job['id']}")
    if "output" in job and Status(job["status"]).is_final:
        check("Result", job["output"], f"the output of job {job['id']}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway answered to one request."""

    path: str
    code: int
    body: bytes

    def schema(self) -> str | None:
        """Name the schema that it should follow; None: the document does not have the path."""
        methods = PATHS.get(Address.of(self.path).operation)
        if methods is None:
            return None
        (operation,) = methods.values()
        response = operation["responses"].get(str(self.code))
        if response is None:
            return "Problem"
        reference: str = response["content"]["application/json"]["schema"]["$ref"]
        return reference.rpartition("/")[2]


@dataclass
class Notes:
    """What was answered since the last check, and the jobs that were not over then."""

    answers: dict[Answer, None] = field(default_factory=dict)  # each of them once
    jobs: list[Job] = field(default_factory=list)

    def check(self) -> int:
        """Hold what was noted against the description; gives how many results were among it.

        What was sent must be as described where the job completes: what the worker refuses may
        be anything, and what it accepts is described.
        """
        answers, self.answers = self.answers, {}
        for answer in answers:
            schema = answer.schema()
            if schema is not None:
                check(schema, json.loads(answer.body), f"{answer.code} of {answer.path}")
        over = [job for job in self.jobs if job.status.is_final]
        self.jobs = [job for job in self.jobs if not job.status.is_final]
        for job in over:
            check_job(json.loads(dump(job.view())))
            if job.status is Status.COMPLETED:
                check("Request", dict(job.request), f"what was sent for {job.id}")
        return len(over)


@contextmanager
def noted() -> Iterator[Notes]:
    """Note what is said to and by the platforms that start in this block."""
    notes = Notes()
    make, submit = Gateway.application, JobQueue.submit

    @web.middleware
    async def note_answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if isinstance(response, web.Response) and isinstance(response.body, bytes | bytearray):
            answer = Answer(request.path, response.status, bytes(response.body))
            notes.answers[answer] = None
        return response

    def application(gateway: Gateway) -> web.Application:
        app = make(gateway)
        app.middlewares.append(note_answer)
        return app

    def note_job(queue: JobQueue, *arguments: Any, **named: Any) -> Job:
        job = submit(queue, *arguments, **named)
        notes.jobs.append(job)
        return job

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gateway, "application", application)
        patch.setattr(JobQueue, "submit", note_job)
        yield notes
