"""ComfyUI is the next job's as soon as a prompt has ended well, before its history is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.waiting import wait_until
from tests.support.worker import WorkerUnderTest, Workflow, alive, running_worker, worker_is_clean
from tests.support.workflows import node, saved_image
from worker_comfyui.comfyui import ending
from worker_comfyui.comfyui.execution import Executed, Execution
from worker_comfyui.comfyui.follow import Follower
from worker_comfyui.comfyui.link import Link
from worker_comfyui.config import Settings
from worker_comfyui.stop import Stop

QUIET = Settings.from_env({})
MUTE = Settings.from_env({"WEBSOCKET_RECONNECT_ATTEMPTS": "0"})


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerUnderTest]:
    with running_worker(tmp_path_factory.mktemp("worker")) as worker:
        yield worker


@pytest.fixture
def link(worker: WorkerUnderTest) -> Iterator[Link]:
    incarnation = worker.supervisor.wait_ready()
    assert incarnation is not None
    with closing(Link(incarnation, patience_s=30)) as link:
        yield link


def execute(
    worker: WorkerUnderTest,
    link: Link,
    workflow: Workflow,
    at_rest: Callable[[], Any],
    settings: Settings = QUIET,
) -> Executed:
    execution = Execution(link, worker.supervisor, settings, Stop(lambda: False))
    try:
        return execution.run(workflow, {}, lambda _: None, at_rest)
    finally:
        execution.end()


def ran(worker: WorkerUnderTest, prompt_id: str) -> bool:
    return prompt_id in worker.comfyui(f"/history/{prompt_id}")


def test_the_next_prompt_can_run_before_the_history_of_the_one_before_is_read(
    worker: WorkerUnderTest, link: Link
) -> None:
    nexts: list[str] = []

    def run_the_next() -> None:
        nexts.append(worker.submit(saved_image(0x0000FF)))
        wait_until(lambda: ran(worker, nexts[0]))

    executed = execute(worker, link, {"1": node("TestSleepOutput", seconds=0)}, run_the_next)
    assert executed.entry["outputs"] == {"1": {"text": ["slept 0.0 s"]}}
    assert ending.failure(executed.entry) is None
    worker.forget(*nexts)
    wait_until(lambda: not worker.comfyui("/history"))


def test_what_ends_comfyui_takes_nothing_from_the_prompt_before(tmp_path: Path) -> None:
    with running_worker(tmp_path) as worker:
        incarnation = worker.supervisor.wait_ready()
        assert incarnation is not None
        pid = worker.comfyui_pid()

        def end_comfyui() -> None:
            with suppress(requests.RequestException):  # it may end before it answers
                worker.submit({"1": node("TestExit", code=3)})
            wait_until(lambda: not alive(pid))

        with closing(Link(incarnation, patience_s=30)) as link:
            executed = execute(worker, link, {"1": node("TestSleepOutput", seconds=0)}, end_comfyui)
        assert executed.entry["outputs"] == {"1": {"text": ["slept 0.0 s"]}}


@pytest.mark.parametrize(
    "workflow",
    [
        {"1": node("TestFail", message="no")},
        {"1": node("TestRaiseInterrupt")},
    ],
    ids=["failed", "interrupted"],
)
def test_what_did_not_end_well_is_judged_before_the_next_job_runs(
    worker: WorkerUnderTest, link: Link, workflow: Workflow
) -> None:
    rests: list[str] = []
    executed = execute(worker, link, workflow, lambda: rests.append("at rest"))
    assert ending.failure(executed.entry) is not None
    assert rests == []


def test_comfyui_rests_once_when_the_last_prompt_of_a_job_has_ended(
    worker: WorkerUnderTest, link: Link
) -> None:
    known: list[dict[str, Any]] = []

    def queue_another(_: object) -> None:
        if not known:
            known.append({})
            worker.submit(saved_image(0x00FF00), client_id=link.client_id)

    execution = Execution(link, worker.supervisor, QUIET, Stop(lambda: False))
    executed = execution.run(
        {"1": node("TestSleepOutput", seconds=0.2)},
        {},
        queue_another,
        lambda: known.append(worker.comfyui("/queue")),
    )
    assert executed.entry["outputs"].keys() == {"1", "2"}
    assert known == [{}, {"queue_running": [], "queue_pending": []}]


def test_a_prompt_that_is_not_forgotten_yet_is_not_the_next_job_s(
    worker: WorkerUnderTest, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = property(lambda _: False, lambda *_: None)
    # Whether anything else is queued has to be asked where the websocket does not say it.
    monkeypatch.setattr(Follower, "is_last", never, raising=False)
    link.connect()
    link.ended.append(worker.submit(saved_image(0xFF0000), client_id=link.client_id))
    wait_until(lambda: ran(worker, link.ended[0]))
    executed = execute(worker, link, {"9": node("TestSleepOutput", seconds=0)}, lambda: None)
    assert executed.entry["outputs"].keys() == {"9"}
    worker.forget(link.ended[0])


def test_jobs_that_end_comfyui_take_none_of_those_between_along(tmp_path: Path) -> None:
    with running_worker(tmp_path, WORKER_CONCURRENCY="4", COMFY_MAX_RESTARTS="20") as worker:
        good = {"workflow": saved_image(0xFF0000)}
        bad = {"workflow": {"1": node("TestExit", code=3)}}
        jobs = [worker.start(request) for _ in range(2) for request in (good, bad)]
        results = [job.result(60) for job in jobs]
        assert [len(result["images"]) for result in results[::2]] == [1, 1]
        assert [result["error_code"] for result in results[1::2]] == ["COMFYUI_CRASHED"] * 2
        assert worker_is_clean(worker)
