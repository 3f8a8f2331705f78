"""Whatever a platform answers, through real sockets: no job is lost, and the worker goes on."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.control_plane import FakeWorker, loop_at, until
from worker_comfyui.platform_side import loop, results, taking


@dataclass
class RawPlatform:
    """A platform that answers with any bytes; polls for which it has none are held.

    Attributes:
        takes: Answers to job-take.
        stops: Answers to job-stop.
        dones: Answers to job-done for the job `first`; all else is taken.
        posts: What was posted and taken, with the job's id as it was in the address.
        jobs_in_hand: Asks the worker.
    """

    takes: deque[bytes] = field(default_factory=deque)
    stops: deque[bytes] = field(default_factory=deque)
    dones: deque[bytes] = field(default_factory=deque)
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    talks: set[asyncio.Task[None]] = field(default_factory=set)
    jobs_in_hand: Callable[[], frozenset[str]] = frozenset

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it or the platform ends."""
        talk = asyncio.create_task(self._talk(reader, writer))
        self.talks.add(talk)
        await asyncio.wait({talk})
        self.talks.discard(talk)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def close(self, server: asyncio.Server) -> None:
        """End all connections."""
        server.close()
        for talk in self.talks:
            talk.cancel()
        await until(lambda: not self.talks)
        await asyncio.sleep(0.01)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                path = head.split()[1].partition("?")[0]
                if path.startswith("/job-done/"):
                    body = json.loads(await reader.readexactly(content_length(head)))
                    if self.dones and path.endswith("/first"):
                        writer.write(self.dones.popleft())
                        break
                    self.posts.append((path.removeprefix("/job-done/"), body))
                    writer.write(TAKEN)
                else:
                    polls = self.takes if path.startswith("/job-take") else self.stops
                    while not polls:  # noqa: ASYNC110  # a deque has no event
                        await asyncio.sleep(0.001)
                    writer.write(polls.popleft())
                    break
                await writer.drain()
            await writer.drain()


def content_length(head: str) -> int:
    """The length that a request's head announces."""
    lines = head.lower().splitlines()
    return next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))


TAKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def http(body: bytes, status: int = 200, label: str = "application/json") -> bytes:
    """An answer that is whole."""
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {label}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
ids = st.text("abcXYZ0123456789-_", min_size=1, max_size=12)
real_jobs = st.builds(
    lambda job_id, rest: {**rest, "id": job_id},
    ids,
    st.dictionaries(st.sampled_from(["input", "webhook", "s3Config", "self", "x"]), json_values),
)
no_jobs = (
    st.none()
    | ids
    | st.integers()
    | st.lists(json_values, max_size=2)
    | st.fixed_dictionaries(
        {}, optional={"id": st.none() | st.booleans() | st.floats() | st.lists(ids, max_size=1)}
    )
)
entries = st.lists(real_jobs | no_jobs, max_size=4)
statuses = st.sampled_from([200, 200, 200, 201, 204, 302, 400, 401, 404, 418, 429, 500, 503, 999])
labels = st.sampled_from(["application/json", "text/html", "a/b; charset=nothing", "", "\xff"])
broken = st.one_of(
    st.builds(http, st.binary(), statuses, st.just("application/json")),
    st.builds(
        lambda answer, end: answer[: -1 - end % len(answer)] or b"\r\n",
        st.just(http(b'{"id": "cut", "input": {"x": 1}}')),
        st.integers(0, 200),
    ),
    st.sampled_from(
        [
            b"",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
            b"HTTP/1.1 302 X\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 302 X\r\nLocation: \r\nContent-Length: 0\r\n\r\n",
            b"HTTP/9 abc\r\n\r\n",
            http(b'{"id":[' * 100_000),
        ]
    ),
    st.binary(),
)


@contextmanager
def worker_on(platform: RawPlatform) -> Iterator[asyncio.Runner]:
    """Run the real loop against a platform whenever the runner runs something."""
    with pytest.MonkeyPatch.context() as monkeypatch, asyncio.Runner() as runner:
        for part, name, seconds in (
            (taking, "REFUSED_PAUSE_S", 0.0),
            (taking, "TOO_MANY_PAUSE_S", 0.0),
            (loop, "STOP_PAUSE_S", 0.001),
            (loop, "STOP_TOO_MANY_PAUSE_S", 0.001),
            (results, "TRIES_S", 0.05),
            (results, "FIRST_PAUSE_S", 0.01),
        ):
            monkeypatch.setattr(part, name, seconds)
        server = runner.run(_serve(platform))
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        block = loop_at(url, FakeWorker(), monkeypatch)
        running, task = runner.run(block.__aenter__())
        platform.jobs_in_hand = lambda: running.jobs_in_hand
        try:
            yield runner
            assert not task.done()
        finally:
            runner.run(block.__aexit__(None, None, None))
            runner.run(platform.close(server))
        assert task.done()


async def _serve(platform: RawPlatform) -> asyncio.Server:
    return await asyncio.start_server(platform.connected, "127.0.0.1", 0)


GOOD = b'{"id": "good job", "input": {}}'
GOOD_ID = "good%20job"


async def _good_job_done(platform: RawPlatform) -> None:
    def results_of_it() -> list[dict[str, Any]]:
        return [body for job_id, body in platform.posts if job_id == GOOD_ID]

    await until(lambda: results_of_it() != [] and not platform.jobs_in_hand(), 10)
    assert results_of_it() == [{"output": {"done": "good job"}}]


async def _answered(platform: RawPlatform, answer: bytes) -> dict[str, list[dict[str, Any]]]:
    """Give an answer and then a good job; return what was posted for each other job."""
    platform.posts.clear()
    platform.takes.extend([answer, http(GOOD)])
    await _good_job_done(platform)
    posted: dict[str, list[dict[str, Any]]] = {}
    for job_id, body in platform.posts:
        if job_id != GOOD_ID:
            posted.setdefault(job_id, []).append(body)
    return posted


def test_every_job_in_an_answer_gets_one_answer_and_the_next_one_is_done() -> None:
    platform = RawPlatform()
    with worker_on(platform) as runner:

        @settings(max_examples=300, deadline=None)
        @given(entries=entries, single=st.booleans())
        def check(entries: list[Any], single: bool) -> None:
            given_now = entries[:1] if single else entries
            content = given_now[0] if single and given_now else given_now
            posted = runner.run(_answered(platform, http(json.dumps(content).encode())))
            expected = {e["id"] for e in given_now if isinstance(e, dict) and _has_id(e)}
            expected |= {str(e["id"]) for e in given_now if isinstance(e, dict) and _is_int(e)}
            assert posted == {job_id: [{"output": {"done": job_id}}] for job_id in expected}

        check()


def _has_id(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("id"), str)


def _is_int(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("id"), int) and not isinstance(entry["id"], bool)


def test_whatever_the_platform_answers_the_next_job_is_done() -> None:
    platform = RawPlatform()
    whole = st.builds(http, entries.map(lambda value: json.dumps(value).encode()), statuses, labels)
    with worker_on(platform) as runner:

        @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(answer=whole | broken)
        def check(answer: bytes) -> None:
            runner.run(_answered(platform, answer))

        check()


def test_whatever_the_platform_answers_to_a_result_the_next_job_is_done() -> None:
    platform = RawPlatform()
    whole = st.builds(http, st.binary(max_size=50), statuses, labels)

    async def scenario(answers: list[bytes]) -> None:
        platform.posts.clear()
        platform.dones.extend(answers)
        platform.takes.extend([http(b'{"id": "first", "input": {}}'), http(GOOD)])
        await _good_job_done(platform)
        platform.dones.clear()

    with worker_on(platform) as runner:

        @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(answers=st.lists(whole | broken, max_size=3))
        def check(answers: list[bytes]) -> None:
            runner.run(scenario(answers))

        check()


def test_whatever_the_platform_answers_to_the_question_for_stops_jobs_are_done() -> None:
    platform = RawPlatform()
    contents = json_values | st.fixed_dictionaries({"jobsToStop": json_values | st.lists(ids)})
    whole = st.builds(
        http, contents.map(lambda value: json.dumps(value).encode()), statuses, labels
    )

    async def scenario(answers: list[bytes]) -> None:
        platform.posts.clear()
        platform.stops.extend(answers)
        platform.takes.append(http(GOOD))
        await _good_job_done(platform)
        await until(lambda: not platform.stops)

    with worker_on(platform) as runner:

        @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(answers=st.lists(whole | broken, max_size=3))
        def check(answers: list[bytes]) -> None:
            runner.run(scenario(answers))

        check()
