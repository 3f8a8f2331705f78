from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.control_plane import FakeWorker, loop_at, until
from worker_comfyui.platform_side import taking
from worker_comfyui.platform_side.taking import Taken, jobs_in

# --- reading an answer


def test_one_job_or_a_list_of_jobs() -> None:
    one = {"id": "a", "input": {"x": 1}, "webhook": "w", "s3Config": {}}
    assert jobs_in(json.dumps(one).encode()) == [Taken("a", one)]
    assert jobs_in(json.dumps([one, {"id": "b"}]).encode()) == [
        Taken("a", one),
        Taken("b", {"id": "b"}),
    ]


@pytest.mark.parametrize("body", [b"[]", b"null"])
def test_no_job_is_nothing_to_speak_of(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert jobs_in(body) == []
    assert caplog.records == []


def test_a_number_as_an_id_is_the_text_of_it() -> None:
    assert jobs_in(b'{"id": 17, "input": {}}') == [Taken("17", {"id": "17", "input": {}})]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[null]", "NoneType"),
        (b'["id"]', "'id'"),
        (b"5", "5"),
        (b'[["id"]]', "list"),
        (b"{}", "an object with the id None"),
        (b'{"id": true, "input": {}}', "the id True"),
        (b'{"id": 1.5, "input": {}}', "the id 1.5"),
        (b'{"id": ["a"], "input": {}}', "the id ['a']"),
        (b'{"id": "", "input": {}}', "the id ''"),
        (b'{"id": "a\\nb", "input": {}}', r"the id 'a\nb'"),
        (b'{"id": "\\ud800", "input": {}}', r"the id '\ud800'"),
        (b'{"id": null, "input": {"api_key": "private words"}}', "the id None"),
    ],
)
def test_what_is_no_job_is_named_and_not_quoted(
    body: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert jobs_in(body) == []
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("the platform gave something that is no job: ")
    assert said in record.getMessage()
    assert "private words" not in caplog.text


DEEP = b'{"input": ' + b'{"id":[' * 100_000 + b"1" + b"]}" * 100_000
LONG_NUMBER = b"1" * 5000


@pytest.mark.parametrize(
    ("body", "ids", "why"),
    [
        (DEEP + b', "id": "a"}', ["a"], "nested too deeply"),
        (b"[" + DEEP + b', "id": "a"}, {"id": "b", "input": 1}]', ["a", "b"], "nested too deeply"),
        (b'{"id": "a", "input": {"id": "x", "n": ' + LONG_NUMBER + b"}}", ["a"], "not JSON"),
        (b'{"id": "a\\u0062", "input": "caf\xe9"}', ["ab"], "not JSON"),
        (b'{"id": "a", "input": "it ends', ["a"], "not JSON"),
        (b'{"input": "\\"id\\":\\"x\\"", "id" : "a", }', ["a"], "not JSON"),
        (b'{"x": "id", "id": ["b"], "id": "a", "y": {"id": "c"', ["a"], "not JSON"),
    ],
)
def test_a_job_that_cannot_be_read_has_an_id_to_answer_to(
    body: bytes, ids: list[str], why: str
) -> None:
    jobs = jobs_in(body)
    assert [job.id for job in jobs] == ids
    assert all(job.problem and why in job.problem for job in jobs)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b'"id": "a"', b'{"id": 5, ', b"}{"])
def test_an_answer_without_an_id_is_logged(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert jobs_in(body) == []
    assert "the platform's answer to job-take cannot be used" in caplog.text


@given(body=st.binary() | st.text('{}[]":,\\id \n1').map(str.encode))
def test_no_answer_raises(body: bytes) -> None:
    for job in jobs_in(body):
        assert job.id == job.raw["id"]
        assert job.id


# --- through a real socket


@dataclass
class RawPlatform:
    """A platform that answers polls with any bytes; it holds those for which it has none."""

    answers: deque[bytes] = field(default_factory=deque)
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    talks: set[asyncio.Task[None]] = field(default_factory=set)

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
                    length = next(
                        int(line.split(":")[1])
                        for line in head.lower().splitlines()
                        if line.startswith("content-length:")
                    )
                    body = json.loads(await reader.readexactly(length))
                    self.posts.append((path.removeprefix("/job-done/"), body))
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                elif path.startswith("/job-take"):
                    await until(lambda: bool(self.answers), 60)
                    writer.write(self.answers.popleft())
                    break
                else:
                    await asyncio.sleep(60)
                await writer.drain()
            await writer.drain()


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
            http(DEEP + b"}"),
        ]
    ),
    st.binary(),
)


@contextmanager
def worker_on(platform: RawPlatform) -> Iterator[asyncio.Runner]:
    """Run the real loop against a platform whenever the runner runs something."""
    with pytest.MonkeyPatch.context() as monkeypatch, asyncio.Runner() as runner:
        for name in ("REFUSED_PAUSE_S", "TOO_MANY_PAUSE_S"):
            monkeypatch.setattr(taking, name, 0.0)
        server = runner.run(_serve(platform))
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        block = loop_at(url, FakeWorker(), monkeypatch)
        _, task = runner.run(block.__aenter__())
        try:
            yield runner
            assert not task.done()
        finally:
            runner.run(block.__aexit__(None, None, None))
            runner.run(platform.close(server))
        assert task.done()


async def _serve(platform: RawPlatform) -> asyncio.Server:
    return await asyncio.start_server(platform.connected, "127.0.0.1", 0)


async def _answered(platform: RawPlatform, answer: bytes) -> dict[str, list[dict[str, Any]]]:
    """Give an answer and then a good job; return what was posted for each job before that one."""
    platform.posts.clear()
    platform.answers.extend([answer, http(b'{"id": "good job", "input": {}}')])
    await until(lambda: platform.posts != [] and platform.posts[-1][0] == "good%20job", 10)
    posted: dict[str, list[dict[str, Any]]] = {}
    for job_id, body in platform.posts[:-1]:
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
