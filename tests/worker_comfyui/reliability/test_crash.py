"""ComfyUI dies, freezes or cannot come back: what becomes of the job, and of the next one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.comfyui import REAL_COMFYUI
from tests.support.worker import (
    WorkerUnderTest,
    alive,
    running_worker,
    wait_until,
    worker_is_clean,
)
from tests.support.workflows import color_of, input_image, node, saved_image, saved_input

HANG_S = 8.0 if REAL_COMFYUI else 2.0


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerUnderTest]:
    base = tmp_path_factory.mktemp("comfyui")
    with running_worker(
        base, COMFY_HANG_TIMEOUT_S=str(HANG_S), COMFY_POLL_INTERVAL_S="0.5"
    ) as running:
        yield running


def assert_next_job_works(worker: WorkerUnderTest) -> None:
    result = worker.run({"workflow": saved_image(0x00FF00)})
    assert color_of(result["images"][0]) == (0, 255, 0)
    assert worker_is_clean(worker)


@pytest.mark.parametrize(
    ("death", "inputs"), [("TestKill", {}), ("TestExit", {"code": 1}), ("TestExit", {"code": 0})]
)
def test_a_job_whose_comfyui_dies_runs_once_more_and_succeeds(
    worker: WorkerUnderTest, tmp_path: Path, death: str, inputs: dict[str, int]
) -> None:
    before = worker.comfyui_pid()
    workflow = {
        **saved_input("photo.png"),
        "3": node(death, **inputs, times=1, counter=str(tmp_path / "runs")),
    }
    result = worker.run({"workflow": workflow, "images": [input_image("photo.png", (9, 8, 7))]})

    assert color_of(result["images"][0]) == (9, 8, 7)
    assert len(result["images"]) == 1
    assert result["texts"] == [{"node_id": "3", "text": "alive"}]
    assert (tmp_path / "runs").read_text() == "2"
    assert not alive(before)
    assert_next_job_works(worker)


@pytest.mark.parametrize(
    ("death", "reason"),
    [
        ({"class_type": "TestKill", "inputs": {}}, "was killed (SIGKILL)"),
        ({"class_type": "TestExit", "inputs": {"code": 3}}, "exited with code 3"),
    ],
)
def test_a_job_that_kills_comfyui_twice_fails_and_the_next_one_works(
    worker: WorkerUnderTest, death: dict[str, object], reason: str
) -> None:
    workflow = {**saved_input("photo.png"), "3": death}
    result = worker.run({"workflow": workflow, "images": [input_image("photo.png", (1, 2, 3))]})

    assert result["error_code"] == "COMFYUI_CRASHED"
    assert reason in result["error"]
    assert "in both of 2 runs" in result["error"]
    assert result["retryable"] is True
    assert "refresh_worker" not in result
    assert_next_job_works(worker)


def test_a_comfyui_that_is_killed_from_outside_is_replaced_and_the_job_runs_again(
    worker: WorkerUnderTest,
) -> None:
    job = worker.start({"workflow": {"1": node("TestSleepOutput", seconds=1.0)}})
    wait_until(lambda: job.updates)
    os.kill(worker.comfyui_pid(), signal.SIGKILL)

    assert job.result()["texts"] == [{"node_id": "1", "text": "slept 1.0 s"}]


def test_a_comfyui_that_dies_while_idle_is_back_before_the_worker_is_ready_again(
    worker: WorkerUnderTest,
) -> None:
    before = worker.comfyui_pid()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not worker.worker.is_ready, 2)
    wait_until(lambda: worker.worker.is_ready)

    assert worker.comfyui_pid() != before
    assert_next_job_works(worker)


def test_a_job_that_arrives_before_the_death_is_noticed_succeeds(worker: WorkerUnderTest) -> None:
    os.kill(worker.comfyui_pid(), signal.SIGKILL)

    assert_next_job_works(worker)


def test_a_comfyui_that_freezes_in_a_job_is_replaced_in_bounded_time(
    worker: WorkerUnderTest, tmp_path: Path
) -> None:
    before = worker.comfyui_pid()
    started = time.monotonic()
    result = worker.run(
        {"workflow": {"1": node("TestFreeze", times=1, counter=str(tmp_path / "n"))}}
    )

    assert result["texts"] == [{"node_id": "1", "text": "alive"}]
    assert not alive(before)
    assert time.monotonic() - started < 3 * HANG_S + (30 if REAL_COMFYUI else 8)
    assert_next_job_works(worker)


def test_a_comfyui_that_is_frozen_before_the_upload_is_replaced_and_the_job_succeeds(
    worker: WorkerUnderTest,
) -> None:
    before = worker.comfyui_pid()
    os.kill(before, signal.SIGSTOP)
    result = worker.run(
        {"workflow": saved_input("photo.png"), "images": [input_image("photo.png", (5, 6, 7))]}
    )

    assert color_of(result["images"][0]) == (5, 6, 7)
    assert not alive(before)


def test_a_comfyui_that_freezes_while_idle_makes_the_worker_unready_until_it_is_replaced(
    worker: WorkerUnderTest,
) -> None:
    before = worker.comfyui_pid()
    os.kill(before, signal.SIGSTOP)
    wait_until(lambda: not worker.worker.is_ready, 3 * HANG_S)
    wait_until(lambda: worker.worker.is_ready)

    assert not alive(before)
    assert_next_job_works(worker)


def test_a_job_can_be_cancelled_while_comfyui_is_being_restarted(worker: WorkerUnderTest) -> None:
    job = worker.start({"workflow": {"1": node("TestSleepOutput", seconds=60)}})
    wait_until(lambda: job.updates)
    os.kill(worker.comfyui_pid(), signal.SIGKILL)
    wait_until(lambda: not worker.worker.is_ready, 2)
    started = time.monotonic()
    job.cancel()

    assert job.was_cancelled()
    assert time.monotonic() - started < 2
    wait_until(lambda: worker.worker.is_ready)
    assert_next_job_works(worker)


def test_a_worker_retires_when_restarts_do_not_help(tmp_path: Path) -> None:
    with running_worker(tmp_path, COMFY_MAX_RESTARTS="1") as worker:
        result = worker.run({"workflow": {"1": node("TestKill")}})

        assert result["error_code"] == "COMFYUI_CRASHED"
        assert result["refresh_worker"] is True
        assert worker.worker.must_retire
        assert not worker.worker.is_ready

        started = time.monotonic()
        late = worker.run({"workflow": saved_image()})
        assert late["error_code"] == "COMFYUI_CRASHED"
        assert "1 restarts did not help" in late["error"]
        assert late["refresh_worker"] is True
        assert time.monotonic() - started < 1


def test_a_comfyui_that_cannot_start_again_ends_in_retirement_not_in_waiting(
    tmp_path: Path,
) -> None:
    with running_worker(tmp_path, COMFY_MAX_RESTARTS="2") as worker:
        broken = tmp_path / "custom_nodes" / "broken.py"
        broken.write_text("import os\nos._exit(7)\n")
        os.kill(worker.comfyui_pid(), signal.SIGKILL)
        result = worker.run({"workflow": saved_image()})

        assert result["error_code"] == "COMFYUI_CRASHED"
        assert "exited with code 7" in result["error"]
        assert result["refresh_worker"] is True
        assert worker.worker.must_retire


def test_restarts_are_forgotten_once_a_workflow_has_ended_even_in_an_error(tmp_path: Path) -> None:
    with running_worker(tmp_path, COMFY_MAX_RESTARTS="1") as worker:
        for _ in range(2):
            os.kill(worker.comfyui_pid(), signal.SIGKILL)
            wait_until(lambda: not worker.worker.is_ready, 2)
            result = worker.run({"workflow": {"1": node("TestFail", message="no")}})
            assert result["error_code"] == "EXECUTION_FAILED"
            assert not worker.worker.must_retire
