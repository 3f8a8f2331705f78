"""What happens between the end of a prompt and the next job's."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import wait_until
from tests.support.worker import WorkerUnderTest, Workflow, running_worker, worker_is_clean
from tests.support.workflows import node, saved_image
from worker_comfyui import logs
from worker_comfyui.comfyui import ending
from worker_comfyui.comfyui.events import Event
from worker_comfyui.comfyui.execution import Executed, Execution
from worker_comfyui.comfyui.follow import Follower
from worker_comfyui.comfyui.link import Link
from worker_comfyui.config import Settings
from worker_comfyui.stop import Stop


@pytest.fixture
def link(worker: WorkerUnderTest) -> Iterator[Link]:
    incarnation = worker.supervisor.wait_ready()
    assert incarnation is not None
    with closing(Link(incarnation, patience_s=30)) as link:
        yield link


def execution_on(worker: WorkerUnderTest, link: Link) -> Execution:
    return Execution(link, worker.supervisor, Settings.from_env({}), Stop(lambda: False))


def execute(
    worker: WorkerUnderTest,
    link: Link,
    workflow: Workflow,
    at_rest: Callable[[], Any],
    on_event: Callable[[Event], None] = lambda _: None,
) -> Executed:
    with closing(execution_on(worker, link)) as execution:
        try:
            return execution.run(workflow, {}, on_event, at_rest)
        finally:
            execution.end()


def test_there_is_time_for_other_work_while_comfyui_looks_up_the_history(
    worker: WorkerUnderTest, link: Link
) -> None:
    asked: list[object] = []
    workflow = {"1": node("TestSleepOutput", seconds=0)}
    executed = execute(worker, link, workflow, lambda: asked.append(link.client._connection._owed))
    assert executed.entry["outputs"] == {"1": {"text": ["slept 0.0 s"]}}
    assert [str(request).startswith("('GET', '/history/") for request in asked] == [True]
    wait_until(lambda: not worker.comfyui("/history"))


@pytest.mark.parametrize(
    "workflow",
    [
        {"1": node("TestFail", message="no")},
        {"1": node("TestRaiseInterrupt")},
    ],
    ids=["failed", "interrupted"],
)
def test_nothing_is_begun_while_it_is_open_how_a_prompt_ended(
    worker: WorkerUnderTest, link: Link, workflow: Workflow
) -> None:
    rests: list[str] = []
    executed = execute(worker, link, workflow, lambda: rests.append("at rest"))
    assert ending.failure(executed.entry) is not None
    assert rests == []


def test_comfyui_does_not_rest_before_the_last_prompt_of_a_job_has_ended(
    worker: WorkerUnderTest, link: Link
) -> None:
    known: list[dict[str, Any]] = []

    def queue_another(_: Event) -> None:
        if not known:
            known.append({})
            worker.submit(saved_image(0x00FF00), client_id=link.client_id)

    workflow = {"1": node("TestSleepOutput", seconds=0.2)}
    executed = execute(
        worker, link, workflow, lambda: known.append(worker.comfyui("/queue")), queue_another
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
    wait_until(lambda: link.ended[0] in worker.comfyui("/history"))
    executed = execute(worker, link, {"9": node("TestSleepOutput", seconds=0)}, lambda: None)
    assert executed.entry["outputs"].keys() == {"9"}
    worker.forget(link.ended[0])


def test_a_comfyui_that_no_job_can_use_any_more_answers_the_one_that_ended_well(
    tmp_path: Path,
) -> None:
    lost = "Traceback (most recent call last):\n  x()\nRuntimeError: misaligned address"
    # More than the buffer of its output holds.
    request = {"workflow": {"1": node("TestPrint", text=lost, count=200)}}
    with running_worker(tmp_path) as worker:
        first = worker.supervisor.wait_ready()
        results = [worker.run(request) for _ in range(2)]
        assert [result.get("texts") for result in results] == [
            [{"node_id": "1", "text": "printed"}]
        ] * 2
        assert worker.supervisor.wait_ready() != first


def test_comfyui_s_last_line_about_a_job_has_the_job_s_id(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "comfyui")
    caplog.handler.addFilter(logs._add_context)
    jobs = [f"job-{number}" for number in range(20)]
    with running_worker(tmp_path, WORKER_CONCURRENCY="2") as worker:
        for running in [worker.start({"workflow": saved_image()}, id=job) for job in jobs]:
            assert running.result()["images"]
    lines = [vars(r)["context"] for r in caplog.records if "Prompt executed" in r.getMessage()]
    assert sorted(line.get("job_id") for line in lines) == sorted(jobs)


def test_what_comfyui_prints_is_the_job_s_whose_prompt_it_got_last(
    worker: WorkerUnderTest,
    link: Link,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "LATE_S", 0)
    caplog.handler.addFilter(logs._add_context)

    def comfyui_prints(text: str) -> None:
        thread = threading.Thread(target=logging.getLogger("comfyui").error, args=(text,))
        thread.start()
        thread.join()

    workflow = {"1": node("TestSleepOutput", seconds=0)}
    with (
        closing(execution_on(worker, link)) as first,
        closing(execution_on(worker, link)) as second,
    ):
        with logs.fields(job_id="job-1"):
            first.run(workflow, {}, lambda _: None, lambda: None)
        with logs.fields(job_id="job-2"):
            comfyui_prints("one that is late")
            second.run(workflow, {}, lambda _: None, lambda: comfyui_prints("one about the second"))
    comfyui_prints("one about no job")
    lines = {r.getMessage(): vars(r)["context"] for r in caplog.records if r.name == "comfyui"}
    assert lines["one that is late"] == {"job_id": "job-1", "prompt_id": first.prompt_id}
    assert lines["one about the second"] == {"job_id": "job-2", "prompt_id": second.prompt_id}
    assert lines["one about no job"] == {}


def test_a_job_that_ends_comfyui_takes_none_of_those_beside_it_along(tmp_path: Path) -> None:
    with running_worker(tmp_path, WORKER_CONCURRENCY="3") as worker:
        good = {"workflow": saved_image(0xFF0000)}
        bad = {"workflow": {"1": node("TestExit", code=3)}}
        first, ended, last = [worker.start(request).result for request in (good, bad, good)]
        assert [len(one()["images"]) for one in (first, last)] == [1, 1]
        assert ended()["error_code"] == "COMFYUI_CRASHED"
        wait_until(lambda: worker_is_clean(worker))
