from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from aiohttp import web
from runpod.serverless.modules import rp_job
from runpod.serverless.modules.worker_state import JobsProgress

from tests.support.control_plane import (
    ControlPlane,
    FakeWorker,
    running_loop,
    until,
    until_cancelled,
)
from worker_comfyui.comfyui.tracking import Update
from worker_comfyui.platform_side import sdk, taking
from worker_comfyui.platform_side.loop import Loop
from worker_comfyui.platform_side.running import Runner
from worker_comfyui.platform_side.taking import Taken


def jobs(*given: Any) -> web.Response:
    """An answer to job-take, as it is."""
    return web.json_response(list(given))


# --- taking jobs


def test_jobs_are_taken_run_and_posted_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running_loop(FakeWorker(), monkeypatch) as running:
            running.platform.waiting.extend(["a", "b", "c"])
            await until(lambda: len(running.platform.posts) == 3)
            assert running.platform.posts == [
                (name, {"output": {"done": name}}) for name in ("a", "b", "c")
            ]

    asyncio.run(scenario())


def test_the_next_job_is_asked_for_as_soon_as_the_last_is_posted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with running_loop(FakeWorker(), monkeypatch) as running:
            began = time.monotonic()
            running.platform.waiting.extend(str(n) for n in range(8))
            await until(lambda: len(running.platform.posts) == 8, 8)
            # The SDK alone: a second for each.
            assert time.monotonic() - began < 7

    asyncio.run(scenario())


def test_a_result_on_its_way_holds_up_no_job_but_not_more_than_one_is_on_its_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worked: list[str] = []

    def work(job: Mapping[str, Any], *_: object) -> dict[str, Any]:
        worked.append(job["id"])
        return {"done": job["id"]}

    async def scenario() -> None:
        async with running_loop(FakeWorker(work), monkeypatch) as running:
            running.platform.takes_results.clear()
            running.platform.waiting.extend(["a", "b", "c"])
            await until(lambda: worked == ["a", "b"])
            assert running.loop.jobs_in_hand == {"a", "b"}
            await asyncio.sleep(0.2)
            assert list(running.platform.waiting) == ["c"]
            running.platform.takes_results.set()
            await until(lambda: len(running.platform.posts) == 3)
            assert worked == ["a", "b", "c"]

    asyncio.run(scenario())


def test_a_worker_that_ends_after_a_job_takes_none_while_it_posts_the_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with running_loop(FakeWorker(), monkeypatch, refresh_worker=True) as running:
            running.platform.takes_results.clear()
            running.platform.waiting.extend(["a", "b"])
            await until(lambda: running.loop.jobs_in_hand == {"a"})
            await asyncio.sleep(0.2)
            running.platform.takes_results.set()
            await asyncio.wait_for(running.task, 5)
            assert [job_id for job_id, _ in running.platform.posts] == ["a"]
            assert list(running.platform.waiting) == ["b"]

    asyncio.run(scenario())


def test_a_result_that_ends_the_worker_is_posted_after_the_one_on_its_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        worker = FakeWorker(lambda job, *_: results_of[job["id"]])
        results_of = {"a": {"done": "a"}, "b": {"error": "x", "refresh_worker": True}}
        async with running_loop(worker, monkeypatch) as running:
            running.platform.answers.append(503)
            running.platform.waiting.extend(["a", "b"])
            await until(lambda: len(running.platform.posts) == 2)
            assert [job_id for job_id, _ in running.platform.posts] == ["a", "b"]

    asyncio.run(scenario())


def test_no_job_is_asked_for_while_comfyui_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        worker = FakeWorker(is_ready=False)
        async with running_loop(worker, monkeypatch) as running:
            await asyncio.sleep(0.3)
            assert running.platform.polls == []
            worker.is_ready = True
            await until(lambda: len(running.platform.polls) == 1)

    asyncio.run(scenario())


def test_a_pending_poll_is_dropped_when_comfyui_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        worker = FakeWorker()
        async with running_loop(worker, monkeypatch) as running:
            await until(lambda: len(running.platform.polls) == 1)
            worker.is_ready = False
            await until(lambda: running.platform.dropped_polls == 1)
            running.platform.waiting.append("a")
            await asyncio.sleep(0.3)
            assert running.platform.posts == []
            worker.is_ready = True
            await until(lambda: len(running.platform.posts) == 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("status", [204, 400, 401, 404, 500])
def test_a_poll_that_brought_nothing_is_not_repeated_at_once(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        platform = ControlPlane(take_status=status)
        async with running_loop(FakeWorker(), monkeypatch, platform=platform) as running:
            await asyncio.sleep(1.5)
            assert 1 <= len(platform.polls) <= 3
            platform.take_status = 200
            platform.waiting.append("a")
            await until(lambda: len(running.platform.posts) == 1)

    asyncio.run(scenario())


def test_a_platform_that_has_too_many_requests_is_left_alone_for_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(taking, "REFUSED_PAUSE_S", 0.01)
    monkeypatch.setattr(taking, "TOO_MANY_PAUSE_S", 1.5)

    async def scenario() -> None:
        platform = ControlPlane(take_status=429)
        async with running_loop(FakeWorker(), monkeypatch, platform=platform) as running:
            await until(lambda: len(platform.polls) == 1)
            platform.waiting.append("a")
            platform.take_status = 200
            await asyncio.sleep(0.5)
            assert len(platform.polls) == 1
            await until(lambda: len(running.platform.posts) == 1)

    asyncio.run(scenario())


def test_with_room_for_two_two_jobs_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=5)

    def meet(job: Mapping[str, Any], *_: object) -> dict[str, Any]:
        both.wait()
        return {"done": job["id"]}

    async def scenario() -> None:
        async with running_loop(FakeWorker(meet), monkeypatch, concurrency=2) as running:
            running.platform.waiting.extend(["a", "b"])
            await until(lambda: len(running.platform.posts) == 2)

    asyncio.run(scenario())


# --- ending


def test_an_idle_loop_ends_at_once_and_drops_its_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running_loop(FakeWorker(), monkeypatch) as running:
            await until(lambda: len(running.platform.polls) == 1)
            running.loop.end()
            await asyncio.wait_for(running.task, 1)
            await until(lambda: running.platform.dropped_polls == 1)
            running.platform.waiting.append("late")
            await asyncio.sleep(0.2)
            assert list(running.platform.waiting) == ["late"]

    asyncio.run(scenario())


def test_a_job_in_hand_is_finished_and_posted_and_no_other_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on = threading.Event()

    def work(job: Mapping[str, Any], *_: object) -> dict[str, Any]:
        assert go_on.wait(5)
        return {"done": job["id"]}

    async def scenario() -> None:
        async with running_loop(FakeWorker(work), monkeypatch) as running:
            running.platform.waiting.extend(["a", "b"])
            await until(lambda: list(running.platform.waiting) == ["b"])
            running.loop.end()
            await asyncio.sleep(0.3)
            assert not running.task.done()
            go_on.set()
            await asyncio.wait_for(running.task, 2)
            assert running.platform.posts == [("a", {"output": {"done": "a"}})]
            assert list(running.platform.waiting) == ["b"]

    asyncio.run(scenario())


def test_a_loop_that_ends_still_stops_cancelled_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        worker = FakeWorker(until_cancelled)
        async with running_loop(worker, monkeypatch, concurrency=2) as running:
            running.platform.waiting.extend(["a", "b"])
            await until(lambda: running.loop.jobs_in_hand == {"a", "b"})
            running.loop.end()
            await asyncio.sleep(0.2)
            running.platform.stops.append(["a"])
            await until(lambda: running.loop.jobs_in_hand == {"b"})
            running.platform.stops.append(["b"])
            await asyncio.wait_for(running.task, 3)
            assert running.platform.posts == []

    asyncio.run(scenario())


def test_the_loop_ends_when_comfyui_is_down_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        worker = FakeWorker()
        async with running_loop(worker, monkeypatch) as running:
            await until(lambda: len(running.platform.polls) == 1)
            worker.is_ready, worker.must_retire = False, True
            await asyncio.wait_for(running.task, 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("cancel", [False, True])
def test_a_worker_that_is_refreshed_ends_after_each_job(
    cancel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        worker = FakeWorker(until_cancelled) if cancel else FakeWorker()
        async with running_loop(worker, monkeypatch, refresh_worker=True) as running:
            running.platform.waiting.extend(["a", "b"])
            if cancel:
                await until(lambda: "a" in running.loop.jobs_in_hand)
                running.platform.stops.append(["a"])
            await asyncio.wait_for(running.task, 3)
            posted = [] if cancel else [("a", {"output": {"done": "a"}, "stopPod": True})]
            assert running.platform.posts == posted
            assert list(running.platform.waiting) == ["b"]

    asyncio.run(scenario())


def test_a_job_whose_answer_has_begun_when_the_loop_ends_is_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        rest = asyncio.Event()

        async def half_an_answer(request: web.Request) -> web.StreamResponse:
            answer = web.StreamResponse(headers={"Content-Type": "application/json"})
            await answer.prepare(request)
            await answer.write(b'{"id": "a", ')
            await rest.wait()
            await answer.write(b'"input": {}}')
            return answer

        platform = ControlPlane()
        monkeypatch.setattr(platform, "job_take", half_an_answer)
        async with running_loop(FakeWorker(), monkeypatch, platform=platform) as running:
            await asyncio.sleep(0.3)
            running.loop.end()
            await asyncio.sleep(0.3)
            assert not running.task.done()
            rest.set()
            await asyncio.wait_for(running.task, 2)
            assert platform.posts == [("a", {"output": {"done": "a"}})]

    asyncio.run(scenario())


def test_sigterm_ends_a_loop_that_the_sdk_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rp_job, "JOB_GET_URL", "http://127.0.0.1:1/job-take/pod?gpu=T")
    worker = FakeWorker()
    loop = Loop(worker, Runner(worker, 1), {}, concurrency=1, refresh_worker=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    threading.Timer(0.3, signal.raise_signal, [signal.SIGTERM]).start()
    try:
        loop.start()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- cancelling


def test_a_cancelled_job_posts_nothing_and_the_next_one_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(job: Mapping[str, Any], cancelled: Callable[[], bool], report: Any) -> Any:
        return until_cancelled(job, cancelled, report) if job["id"] == "a" else {"done": job["id"]}

    async def scenario() -> None:
        async with running_loop(FakeWorker(work), monkeypatch) as running:
            running.platform.waiting.extend(["a", "b"])
            await until(lambda: "a" in running.loop.jobs_in_hand)
            running.platform.stops.append(["a"])
            await until(lambda: len(running.platform.posts) == 1)
            assert running.platform.posts == [("b", {"output": {"done": "b"}})]

    asyncio.run(scenario())


def test_a_job_that_is_stopped_before_its_first_step_frees_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        begun = []

        def work(job: Mapping[str, Any], *_: object) -> dict[str, Any]:
            begun.append(job["id"])
            return {"done": job["id"]}

        async with running_loop(FakeWorker(work), monkeypatch) as running:
            async with sdk.session() as session:
                running.loop._begin(Taken("a", {"id": "a"}), session)
                running.loop.stop_job("a")
                await until(lambda: not running.loop.jobs_in_hand)
            assert begun == []
            assert JobsProgress().get_job_list() is None
            running.platform.waiting.append("b")
            await until(lambda: running.platform.posts == [("b", {"output": {"done": "b"}})])

    asyncio.run(scenario())


def test_a_job_that_waits_for_its_thread_is_stopped_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on = threading.Event()

    def work(job: Mapping[str, Any], *_: object) -> dict[str, Any]:
        assert go_on.wait(5)
        return {"done": job["id"]}

    async def scenario() -> None:
        async with running_loop(FakeWorker(work), monkeypatch) as running:
            # More than was asked for: they are in hand all the same.
            running.platform.given.append(jobs({"id": "a", "input": {}}, {"id": "b", "input": {}}))
            await until(lambda: running.loop.jobs_in_hand == {"a", "b"})
            running.platform.stops.append(["b"])
            await until(lambda: running.loop.jobs_in_hand == {"a"})
            go_on.set()
            await until(lambda: running.platform.posts == [("a", {"output": {"done": "a"}})])

    asyncio.run(scenario())


def test_a_job_keeps_its_place_until_its_thread_has_cleaned_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cleaned = threading.Event()

    def work(job: Mapping[str, Any], cancelled: Callable[[], bool], report: object) -> Any:
        try:
            return until_cancelled(job, cancelled, report)
        finally:
            time.sleep(0.3)
            cleaned.set()

    async def scenario() -> None:
        async with running_loop(FakeWorker(work), monkeypatch) as running:
            running.platform.waiting.append("a")
            await until(lambda: "a" in running.loop.jobs_in_hand)
            running.platform.stops.extend([["a"], ["a"]])  # twice: the second changes nothing
            await until(lambda: not running.loop.jobs_in_hand)
            assert cleaned.is_set()

    asyncio.run(scenario())


# --- progress


def test_progress_arrives_before_the_result_even_when_the_platform_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(job: Mapping[str, Any], _cancelled: object, report: Callable[[Update], None]) -> Any:
        for percent in (10, 20, 30):
            report(update(percent))
            time.sleep(0.1)
        return {"done": job["id"]}

    async def scenario() -> None:
        platform = ControlPlane(slow_progress_s=2.5)
        async with running_loop(FakeWorker(work), monkeypatch, platform=platform):
            platform.waiting.append("a")
            await until(lambda: bool(platform.results()), 10)
            await asyncio.sleep(0.2)
            assert [body.get("status") for _, body in platform.posts] == ["IN_PROGRESS", None]

    asyncio.run(scenario())


def test_no_progress_is_sent_once_a_job_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    reported_late = threading.Event()

    def work(job: Mapping[str, Any], cancelled: Callable[[], bool], report: Any) -> Any:
        try:
            return until_cancelled(job, cancelled, report)
        finally:
            report(update(50))
            time.sleep(0.3)
            reported_late.set()

    async def scenario() -> None:
        async with running_loop(FakeWorker(work), monkeypatch) as running:
            running.platform.waiting.append("a")
            await until(lambda: "a" in running.loop.jobs_in_hand)
            await asyncio.sleep(0.1)
            running.platform.stops.append(["a"])
            await until(lambda: not running.loop.jobs_in_hand)
            assert reported_late.is_set()
            assert running.platform.posts == []

    asyncio.run(scenario())


def update(percent: int) -> Update:
    return {
        "percent": percent,
        "node_id": "1",
        "node": "KSampler",
        "node_percent": 0,
        "message": f"{percent} %",
    }


# --- odd jobs


def test_a_job_that_is_handed_out_twice_runs_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs = []
    go_on = threading.Event()

    def work(job: Mapping[str, Any], *_: object) -> dict[str, Any]:
        runs.append(job["id"])
        assert go_on.wait(5)
        return {"done": job["id"]}

    async def scenario() -> None:
        async with running_loop(FakeWorker(work), monkeypatch, concurrency=2) as running:
            twice = {"id": "a", "input": {}}
            running.platform.given.extend([jobs(twice), jobs(twice, twice), jobs(twice)])
            await until(lambda: not running.platform.given)
            go_on.set()
            await until(lambda: not running.loop.jobs_in_hand)
            assert running.platform.posts == [("a", {"output": {"done": "a"}})]
            # Handed out again when it is over, it is to be run again.
            running.platform.given.append(jobs(twice))
            await until(lambda: len(running.platform.posts) == 2)

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert runs == ["a", "a"]
    assert "handed out again" in caplog.text


def test_a_job_that_cannot_be_read_gets_an_error_that_the_log_counts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with running_loop(FakeWorker(), monkeypatch) as running:
            body = b'{"id": "deep", "input": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001
            running.platform.given.append(web.Response(body=body, content_type="application/json"))
            await until(lambda: len(running.platform.posts) == 1)
            ((job_id, posted),) = running.platform.posts
            assert job_id == "deep"
            assert posted["error"].startswith("INVALID_REQUEST: the job cannot be read: ")
            assert posted["output"]["error_code"] == "INVALID_REQUEST"

    asyncio.run(scenario())
    [line] = [vars(line) for line in caplog.records if "event" in vars(line)]
    assert (line["event"], line["error_code"]) == ("job_failed", "INVALID_REQUEST")
    assert line["job_id"] == "deep"


def test_a_job_that_the_worker_fails_on_gets_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Any:
        raise ZeroDivisionError("private words")

    async def scenario() -> None:
        async with running_loop(FakeWorker(broken), monkeypatch) as running:
            running.platform.waiting.append("a")
            await until(lambda: len(running.platform.posts) == 1)
            ((_, posted),) = running.platform.posts
            assert posted["output"]["error_code"] == "INTERNAL_ERROR"
            assert "private words" not in posted["error"]

    asyncio.run(scenario())


def test_an_id_goes_into_the_address_as_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running_loop(FakeWorker(), monkeypatch) as running:
            odd = ["../x", "a b?c=d#e", "ü", "%2e", 7]
            running.platform.given.append(jobs(*({"id": name, "input": {}} for name in odd)))
            await until(lambda: len(running.platform.posts) == len(odd))
            assert {name for name, _ in running.platform.posts} == {*odd[:-1], "7"}

    asyncio.run(scenario())
