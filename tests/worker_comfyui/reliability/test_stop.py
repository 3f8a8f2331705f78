"""Jobs that are cancelled or reach their deadline, in each phase; the next one starts clean."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.waiting import wait_until
from tests.support.worker import RunningJob, WorkerUnderTest, alive, running_worker, worker_is_clean
from tests.support.workflows import color_of, input_image, node, saved_image, saved_input
from tests.worker_comfyui.workflows.graphs import broadcasts

CANCEL_S = 8.0
"""Within 2 s on a machine of its own."""
INTERRUPT_S = 1.0


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerUnderTest]:
    base = tmp_path_factory.mktemp("comfyui")
    with running_worker(
        base, COMFY_INTERRUPT_TIMEOUT_S=str(INTERRUPT_S), ALLOW_PRIVATE_INPUT_URLS="true"
    ) as running:
        yield running


def cancel_in_time(job: RunningJob) -> None:
    started = time.monotonic()
    job.cancel()
    assert job.was_cancelled()
    assert time.monotonic() - started < CANCEL_S


def assert_next_job_is_clean(worker: WorkerUnderTest) -> None:
    assert worker_is_clean(worker)
    assert worker.scratch() == []
    result = worker.run({"workflow": saved_image(0x0000FF)})
    assert color_of(result["images"][0]) == (0, 0, 255)
    assert result["images"][0]["filename"] == "result_00001_.png"
    assert worker_is_clean(worker)


def assert_next_job_waits_for_its_turn(worker: WorkerUnderTest) -> None:
    """After a deadline ComfyUI is brought to rest; the next job waits until it is."""
    assert color_of(worker.run({"workflow": saved_image(0x0000FF)})["images"][0]) == (0, 0, 255)
    assert_next_job_is_clean(worker)


def running(worker: WorkerUnderTest) -> list[str]:
    return [item[1] for item in worker.comfyui("/queue")["queue_running"]]


@contextmanager
def silent_server() -> Iterator[str]:
    """Accept connections and never answer; yields the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        yield f"http://{host}:{port}"


def test_a_running_job_is_cancelled_and_comfyui_interrupted(worker: WorkerUnderTest) -> None:
    before = worker.comfyui_pid()
    job = worker.start(
        {
            "workflow": {
                **saved_input("photo.png"),
                "3": node("PreviewImage", images=["1", 0]),
                "4": node("TestSleep", seconds=60, any=["1", 0]),
                "5": node("TestSleepOutput", seconds=0, any=["4", 0]),
            },
            "images": [input_image("photo.png", (1, 1, 1))],
        }
    )
    wait_until(lambda: any(update["node"] == "TestSleep" for update in job.updates))
    cancel_in_time(job)

    assert worker.comfyui_pid() == before  # it obeyed; nothing had to be restarted
    assert_next_job_is_clean(worker)


def test_a_job_is_cancelled_while_it_waits_for_its_turn(worker: WorkerUnderTest) -> None:
    first = worker.start({"workflow": {"1": node("TestSleepOutput", seconds=1.0)}})
    wait_until(lambda: first.updates)
    second = worker.start({"workflow": saved_image()})
    time.sleep(0.1)
    cancel_in_time(second)

    assert first.result()["texts"] == [{"node_id": "1", "text": "slept 1.0 s"}]
    assert_next_job_is_clean(worker)


def test_a_job_is_cancelled_while_it_waits_in_comfyui_and_others_are_left_alone(
    worker: WorkerUnderTest,
) -> None:
    theirs = worker.submit({"1": node("TestSleepOutput", seconds=1.5)})
    wait_until(lambda: running(worker) == [theirs])
    job = worker.start({"workflow": saved_image()})
    wait_until(lambda: worker.comfyui("/queue")["queue_pending"])
    cancel_in_time(job)

    assert worker.comfyui("/queue")["queue_pending"] == []
    assert running(worker) == [theirs]
    wait_until(lambda: worker.comfyui(f"/history/{theirs}"))
    entry = worker.comfyui(f"/history/{theirs}")[theirs]
    assert entry["status"]["status_str"] == "success"
    worker.forget(theirs)
    assert_next_job_is_clean(worker)


def test_a_job_is_cancelled_while_an_input_is_downloaded(worker: WorkerUnderTest) -> None:
    with silent_server() as url:
        job = worker.start(
            {"workflow": saved_input("a.png"), "images": [{"name": "a.png", "image": f"{url}/a"}]}
        )
        time.sleep(0.2)
        cancel_in_time(job)

    assert_next_job_is_clean(worker)


def test_an_input_that_fails_does_not_wait_for_the_others(worker: WorkerUnderTest) -> None:
    with silent_server() as url:
        started = time.monotonic()
        result = worker.run(
            {
                "workflow": saved_input("a.png"),
                "images": [{"name": "a.png", "image": f"{url}/a"}, {"name": "b.png", "image": "?"}],
            }
        )

    assert result["error_code"] == "INVALID_REQUEST"
    assert result["details"][0]["path"] == "images[1].image"
    assert time.monotonic() - started < CANCEL_S


def test_a_job_is_cancelled_while_its_result_is_delivered(worker: WorkerUnderTest) -> None:
    with silent_server() as url:
        config = {
            "endpointUrl": url,
            "accessId": "an-access-id",
            "accessSecret": "an-access-secret",
            "bucketName": "results",
        }
        job = worker.start({"workflow": saved_image()}, s3Config=config)
        wait_until(lambda: worker.scratch() and not running(worker) and worker_is_clean(worker))
        assert not job.future.done()
        cancel_in_time(job)

    assert_next_job_is_clean(worker)


def test_the_next_job_runs_while_the_last_one_is_delivered(worker: WorkerUnderTest) -> None:
    with silent_server() as url:
        config = {
            "endpointUrl": url,
            "accessId": "an-access-id",
            "accessSecret": "an-access-secret",
            "bucketName": "results",
        }
        slow = worker.start({"workflow": saved_image()}, s3Config=config)
        wait_until(lambda: worker.scratch() and not running(worker) and worker_is_clean(worker))
        result = worker.run({"workflow": saved_image(0xFF0000)})
        assert color_of(result["images"][0]) == (255, 0, 0)
        assert not slow.future.done()
        cancel_in_time(slow)


def test_a_workflow_past_its_deadline_is_interrupted(worker: WorkerUnderTest) -> None:
    before = worker.comfyui_pid()
    started = time.monotonic()
    result = worker.run({"workflow": {"1": node("TestSleepOutput", seconds=60)}, "timeout_s": 0.5})

    assert result["error_code"] == "TIMED_OUT"
    assert "0.5 s" in result["error"]
    assert result["retryable"] is False
    assert time.monotonic() - started < 0.5 + CANCEL_S
    assert worker.comfyui_pid() == before
    assert_next_job_waits_for_its_turn(worker)


def test_a_node_that_hangs_past_the_deadline_costs_comfyui_but_not_the_next_job(
    worker: WorkerUnderTest,
) -> None:
    before = worker.comfyui_pid()
    started = time.monotonic()
    result = worker.run({"workflow": {"1": node("TestHang", seconds=600)}, "timeout_s": 0.5})

    assert result["error_code"] == "TIMED_OUT"
    assert time.monotonic() - started < 0.5 + CANCEL_S
    assert alive(before)  # the restart comes after the answer
    assert "refresh_worker" not in result
    assert_next_job_waits_for_its_turn(worker)
    assert not alive(before)


def test_a_node_that_hangs_is_cancelled_by_a_restart(worker: WorkerUnderTest) -> None:
    before = worker.comfyui_pid()
    job = worker.start({"workflow": {"1": node("TestHang", seconds=600)}})
    wait_until(lambda: job.updates)
    started = time.monotonic()
    job.cancel()

    assert job.was_cancelled()
    assert time.monotonic() - started < INTERRUPT_S + CANCEL_S
    assert not alive(before)
    assert_next_job_is_clean(worker)


def test_the_deadline_counts_all_that_a_job_does_also_the_wait_for_its_turn(
    worker: WorkerUnderTest,
) -> None:
    first = worker.start({"workflow": {"1": node("TestSleepOutput", seconds=1.0)}})
    wait_until(lambda: first.updates)
    result = worker.run({"workflow": saved_image(0x00FF00), "timeout_s": 0.4})

    assert result["error_code"] == "TIMED_OUT"
    assert re.search(r"0\.4 s while it waited for its turn \(inputs 0\.0 s, wait", result["error"])
    assert first.result()["texts"]
    assert_next_job_is_clean(worker)


def test_a_conversion_without_end_is_over_at_the_deadline(worker: WorkerUnderTest) -> None:
    started = time.monotonic()
    result = worker.run({"workflow": broadcasts(), "timeout_s": 2})

    assert result["error_code"] == "TIMED_OUT"
    assert "of 2 s while it read its inputs (inputs 2." in result["error"]
    assert time.monotonic() - started < 2 + CANCEL_S
    assert_next_job_is_clean(worker)


def test_a_conversion_without_end_is_cancelled(worker: WorkerUnderTest) -> None:
    job = worker.start({"workflow": broadcasts()})
    time.sleep(1)  # nothing tells of a conversion
    cancel_in_time(job)
    assert_next_job_is_clean(worker)


def test_cancelling_at_any_moment_leaves_nothing_behind(worker: WorkerUnderTest) -> None:
    request = {
        "workflow": {**saved_input("photo.png"), "3": node("PreviewImage", images=["1", 0])},
        "images": [input_image("photo.png", (3, 2, 1))],
    }
    for step in range(12):
        job = worker.start(request)
        time.sleep(step * 0.006)
        job.cancel()
        if not job.was_cancelled():
            assert color_of(job.result()["images"][0]) == (3, 2, 1)
        assert worker_is_clean(worker)
    assert_next_job_is_clean(worker)
