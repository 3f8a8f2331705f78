from __future__ import annotations

import asyncio
import json
import logging
import time
import tracemalloc
from collections import deque
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from runpod.serverless.modules import rp_http, rp_job

from tests.support.control_plane import ControlPlane, FakeWorker, running_loop, until
from worker_comfyui.platform_side import results, sdk

MEGA = 1_000_000

# What the SDK's own `run_job` and `send_result` make of it.
AS_THE_SDK = [
    {"images": [{"data": "iVBO"}], "status": "done"},
    {"error": "BOOM: it failed", "error_code": "BOOM", "details": [{"message": "ü"}]},
    {"error": "alone"},
    {"error": ""},
    {"refresh_worker": True},
    {"refresh_worker": False, "texts": []},
    {"error": "the end", "refresh_worker": True, "error_code": "END"},
    {},
]


def posted(result: Mapping[str, Any], *, stop_pod: bool = False) -> tuple[bytes, dict[str, str]]:
    """The body and the headers with which a result is posted."""
    return asyncio.run(_posted(result, stop_pod=stop_pod))


async def _posted(
    result: Mapping[str, Any], *, stop_pod: bool = False
) -> tuple[bytes, dict[str, str]]:
    seen: list[tuple[bytes, dict[str, str]]] = []

    async def take(request: web.Request) -> web.Response:
        seen.append((await request.read(), dict(request.headers)))
        return web.Response()

    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/done/{job}", take)
    server = TestServer(app)
    await server.start_server()
    try:
        with pytest.MonkeyPatch.context() as monkeypatch:
            url = f"http://127.0.0.1:{server.port}/done/$ID?gpu=T"
            monkeypatch.setattr(rp_http, "JOB_DONE_URL", url)
            async with sdk.session() as session:
                await results.post(session, "job-1", result, stop_pod=stop_pod)
    finally:
        await server.close()
    (only,) = seen
    return only


@pytest.mark.parametrize("result", AS_THE_SDK, ids=str)
def test_a_result_is_posted_as_the_sdk_would_post_it(
    result: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[dict[str, Any]] = []

    async def send(_session: object, body: dict[str, Any], _job: object, **_: object) -> None:
        sent.append(body)

    async def handler(_job: object) -> dict[str, Any]:
        return dict(result)

    monkeypatch.setattr(rp_job, "send_result", send)
    asyncio.run(rp_job.handle_job(None, {"handler": handler}, {"id": "job-1"}))
    body, headers = posted(result)
    assert json.loads(body) == sent[0]
    assert body.decode() == json.dumps(sent[0], ensure_ascii=False)
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert headers["Content-Length"] == str(len(body))
    assert headers["X-Request-ID"] == "job-1"
    assert "Transfer-Encoding" not in headers


def test_a_worker_that_is_refreshed_says_so_with_its_result() -> None:
    body, _ = posted({"status": "done"}, stop_pod=True)
    assert json.loads(body) == {"output": {"status": "done"}, "stopPod": True}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
)


@given(value=json_values)
def test_the_pieces_are_the_whole(value: Any) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(results, "_PIECE", 3)
        whole = b"".join(results._encoded(value))
    assert whole.decode() == json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("bad", [float("nan"), b"bytes", {1, 2}, "\ud800", {("a",): 1}])
def test_a_result_that_is_no_json_is_an_error_that_arrives(
    bad: Any, caplog: pytest.LogCaptureFixture
) -> None:
    body, _ = posted({"texts": [bad], "refresh_worker": True})
    answer = json.loads(body)
    assert answer["error"].startswith("INTERNAL_ERROR: ")
    assert answer["stopPod"] is True
    assert "a result is no JSON" in caplog.text


def test_a_large_result_is_not_held_a_second_time() -> None:
    result = {"images": [{"data": "A" * (50 * MEGA)}, {"data": "B" * (10 * MEGA)}]}

    async def scenario() -> int:
        body = results.Body(result)
        return sum([len(piece) async for piece in body.pieces()])

    tracemalloc.start()
    try:
        size = asyncio.run(scenario())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 60 * MEGA
    assert peak < 5 * MEGA


# --- until it arrives


@pytest.mark.parametrize("answers", [[500, 503], [0, 0], [502, 0], [429, 408]])
def test_a_result_is_posted_again_after_errors_and_lost_connections(
    answers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "FIRST_PAUSE_S", 0.1)

    async def scenario() -> None:
        platform = ControlPlane(answers=deque(answers))
        async with running_loop(FakeWorker(), monkeypatch, platform=platform):
            platform.waiting.append("a")
            await until(lambda: platform.posts == [("a", {"output": {"done": "a"}})], 8)

    asyncio.run(scenario())


def test_a_result_is_tried_for_three_minutes() -> None:
    """The pauses alone, with answers that take no time."""
    assert results.TRIES_S == 180
    slept: list[float] = []
    clock = [1000.0]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    async def refuse(*_: object) -> results.Refusal:
        return results.Refusal(500, "down")

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(results, "_try", refuse)
        monkeypatch.setattr(results.asyncio, "sleep", sleep)  # type: ignore[attr-defined]
        monkeypatch.setattr(results.time, "monotonic", lambda: clock[0])  # type: ignore[attr-defined]
        body = results.Body({})
        session: Any = None
        coroutine = results._deliver(session, "a", body)
        with pytest.raises(StopIteration):
            coroutine.send(None)
    assert sum(slept) == 180
    assert max(slept) == 30
    assert slept[:4] == [1, 2, 4, 8]


def test_a_result_that_never_arrives_is_named_in_the_log_and_the_worker_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(results, "FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr(results, "TRIES_S", 1.0)

    async def scenario() -> None:
        platform = ControlPlane(answers=deque([500] * 4 + [0]))
        async with running_loop(FakeWorker(), monkeypatch, platform=platform):
            began = time.monotonic()
            platform.waiting.append("a")
            await until(lambda: "result is lost" in caplog.text, 10)
            assert time.monotonic() - began >= 1.0
            platform.waiting.append("b")
            await until(lambda: platform.posts == [("b", {"output": {"done": "b"}})])

    asyncio.run(scenario())
    (record,) = [r for r in caplog.records if vars(r).get("event") == "result_lost"]
    assert vars(record)["job_id"] == "a"


# --- refused


@pytest.mark.parametrize("status", [400, 404, 413, 301])
def test_a_result_that_the_platform_refuses_becomes_an_error_that_says_so(
    status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        platform = ControlPlane(answers=deque([status]))
        async with running_loop(FakeWorker(), monkeypatch, platform=platform):
            platform.waiting.append("a")
            await until(lambda: len(platform.posts) == 1)
            ((job_id, posted),) = platform.posts
            assert job_id == "a"
            assert posted["error"] == (
                f"RESULT_REFUSED: the platform answered {status} to the result of 25 bytes: because"
            )
            assert posted["output"] == {"error_code": "RESULT_REFUSED", "retryable": False}

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert f"the result was refused: the platform answered {status}: because" in caplog.text


def test_a_worker_that_retires_says_so_with_the_error_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(*_: object) -> dict[str, Any]:
        return {"error": "CRASHED: it did", "refresh_worker": True}

    async def scenario() -> None:
        platform = ControlPlane(answers=deque([400]))
        async with running_loop(FakeWorker(work), monkeypatch, platform=platform):
            platform.waiting.append("a")
            await until(lambda: len(platform.posts) == 1)
            assert platform.posts[0][1]["stopPod"] is True

    asyncio.run(scenario())


def test_a_job_for_which_the_platform_takes_nothing_does_not_keep_the_next_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        platform = ControlPlane(answers=deque([400, 400]))
        async with running_loop(FakeWorker(), monkeypatch, platform=platform):
            platform.waiting.extend(["a", "b"])
            await until(lambda: platform.posts == [("b", {"output": {"done": "b"}})])
            assert [job_id for job_id, _ in platform.refused] == ["a", "a"]

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert "the platform takes no result for this job" in caplog.text
