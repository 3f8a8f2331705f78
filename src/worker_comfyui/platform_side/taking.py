"""Takes jobs from the platform: asks when one could run, and reads whatever is answered."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from typing import Any, Self, TypeGuard

from aiohttp import ClientResponse, ClientSession, TraceConfig, TraceRequestEndParams

from worker_comfyui.platform_side import sdk

log = logging.getLogger(__name__)

LOOK_S = 0.1
POLL_S = 90.0  # the SDK's (rp_scale.py), as is TOO_MANY_PAUSE_S
REST_S = 30.0
"""For the rest of an answer that has begun when the poll is to be dropped."""
REFUSED_PAUSE_S = 1.0
TOO_MANY_PAUSE_S = 5.0

_LONGEST_ID = 500  # it becomes part of an address; the platform's have 44 characters at most


@dataclass(frozen=True, slots=True)
class Taken:
    """A job that the platform has handed out: it waits for an answer to this id.

    Attributes:
        id: As the platform wrote it.
        raw: The whole job: `id`, `input`, and what else was sent.
        problem: Why it cannot be run, or None. `raw` has nothing but the id then.
    """

    id: str
    raw: dict[str, Any]
    problem: str | None = None


class Taker:
    """Asks for jobs, one poll at a time, in a `with` block of its own session.

    Args:
        wanted: Whether a job could still be run. When it becomes false, the pending poll is
            dropped: a job that it brought could not be done.
    """

    def __init__(self, wanted: Callable[[], bool]) -> None:
        self._wanted = wanted
        self._answered = False
        trace = TraceConfig()
        trace.on_request_end.append(self._note_answer)
        self._session = sdk.session(response_class=JobTakeAnswer, trace_configs=[trace])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def take(self, count: int) -> list[Taken]:
        """Ask for at most so many jobs, once; where there are none, pause a moment.

        The SDK itself asks again without a pause, thousands of times a second.
        """
        asked = time.monotonic()
        try:
            jobs = await self._poll(count)
        except sdk.TooManyRequests:
            await self._pause(TOO_MANY_PAUSE_S)
        except Exception as error:  # noqa: BLE001  # whatever it is, the next poll may work
            log.warning("the platform gave no job: %s: %s", type(error).__name__, error)
            await self._pause(REFUSED_PAUSE_S)
        else:
            if not jobs:  # FlashBoot's 400, or a 204 that was not held
                await self._pause(asked + REFUSED_PAUSE_S - time.monotonic())
            return jobs
        return []

    async def _poll(self, count: int) -> list[Taken]:
        self._answered = False
        give_up_at = time.monotonic() + POLL_S
        poll: asyncio.Task[list[Taken]] = asyncio.create_task(sdk.take(self._session, count))
        try:
            while not poll.done() and self._wanted() and time.monotonic() < give_up_at:
                await asyncio.wait({poll}, timeout=LOOK_S)
            if self._answered:  # a job may be in it: dropped now, it would be lost
                await asyncio.wait({poll}, timeout=REST_S)
            return poll.result() if poll.done() else []
        finally:
            poll.cancel()
            await asyncio.wait({poll})

    async def _note_answer(
        self, _session: ClientSession, _context: SimpleNamespace, _end: TraceRequestEndParams
    ) -> None:
        self._answered = True

    async def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._wanted() and time.monotonic() < end:  # noqa: ASYNC110  # a signal ends it
            await asyncio.sleep(min(LOOK_S, seconds))


class JobTakeAnswer(ClientResponse):
    """An answer to `job-take`, which the SDK reads by these two.

    The SDK drops a job without a word that is not labelled as JSON or has no `input`, and fails on
    one that is nested too deeply; the platform would wait for its answer.
    """

    @property
    def content_type(self) -> str:
        """What the SDK wants to see; `jobs_in` finds out what it is."""
        return "application/json"

    async def json(self, **_: Any) -> list[Taken]:
        """Read the jobs."""
        return jobs_in(await self.read())


def jobs_in(body: bytes) -> list[Taken]:
    """Read an answer to `job-take`: a job, or a list of them.

    Whatever has an id is a job that waits for an answer, also where the rest of it cannot be used;
    what has none is logged, and left.
    """
    try:
        answer = json.loads(body)
    except RecursionError:
        return _unreadable(body, "it is nested too deeply")
    except ValueError as error:
        return _unreadable(body, f"it is not JSON that can be read ({error})")
    jobs = []
    for entry in answer if isinstance(answer, list) else [answer]:
        if job := _job(entry):
            jobs.append(job)
        elif answer is not None:  # a bare null says that there is none
            log.error("the platform gave something that is no job: %s", _described(entry))
    return jobs


def _job(entry: Any) -> Taken | None:
    """Return a job with an id that can be answered to; a number counts as the text of it."""
    if not isinstance(entry, dict):
        return None
    job_id = entry.get("id")
    if isinstance(job_id, int) and not isinstance(job_id, bool):
        job_id = str(job_id)
    return Taken(job_id, {**entry, "id": job_id}) if _is_id(job_id) else None


def _is_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_ID and value.isprintable()


def _described(entry: Any) -> str:
    """Say what an entry is. Not all of it: a job has keys in it."""
    if isinstance(entry, dict):
        return f"an object with the id {entry.get('id')!r:.100}"
    return f"{entry!r:.100}" if isinstance(entry, (str, int, float)) else f"{type(entry).__name__}"


def _unreadable(body: bytes, problem: str) -> list[Taken]:
    """Find at least the ids of jobs that cannot be read."""
    job_ids = [job_id for job_id in _ids(body.decode("utf-8", "replace")) if _is_id(job_id)]
    if not job_ids:
        log.error("the platform's answer to job-take cannot be used: %s", problem)
    return [
        Taken(job_id, {"id": job_id}, f"the job cannot be read: {problem}")
        for job_id in dict.fromkeys(job_ids)
    ]


# With possessive `*+`: no text makes the search go back and try again.
_PART = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["{}\[\]:,]', re.DOTALL)


def _ids(text: str) -> Iterator[str]:
    """Yield the `id` of each job, without reading what is nested below it."""
    depth, before = 0, ("", "")
    jobs_at = 2 if text.lstrip().startswith("[") else 1
    for match in _PART.finditer(text):
        part = match[0]
        if part == '"':  # a text that does not end
            return
        if part in "{[":
            depth += 1
        elif part in "}]":
            depth -= 1
        elif depth == jobs_at and before == ('"id"', ":") and part[0] == '"':
            yield _unquoted(part)
        before = (before[1], part if len(part) <= 4 else "")  # `"id"` has four


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return ""
