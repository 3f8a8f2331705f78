"""ComfyUI dies, freezes or cannot come back: what becomes of the job, and of the next one."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.comfyui import REAL_COMFYUI
from tests.support.waiting import wait_until
from tests.support.worker import (
    WorkerUnderTest,
    alive,
    running_worker,
    worker_environment,
    worker_is_clean,
)
from tests.support.workflows import color_of, input_image, node, saved_image, saved_input
from worker_comfyui import logs

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


def test_the_operator_s_own_files_outlive_a_comfyui_that_dies_in_a_job(tmp_path: Path) -> None:
    inputs, outputs = tmp_path / "their-input", tmp_path / "their-output"
    old = {inputs / "photo.png": b"theirs", outputs / "old.png": b"old", outputs / "sub/x": b"x"}
    for path, content in old.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    flags = f"--input-directory {inputs} --output-directory {outputs}"
    flags = f"{worker_environment(tmp_path)['COMFYUI_ARGS']} {flags}"
    workflow = {
        **saved_input("photo.png"),
        "3": node("TestKill", times=1, counter=str(tmp_path / "runs")),
    }
    with running_worker(tmp_path, COMFYUI_ARGS=flags) as worker:
        assert (worker.folders.input, worker.folders.output) == (inputs, outputs)
        result = worker.run({"workflow": workflow, "images": [input_image("photo.png", (9, 8, 7))]})
        assert color_of(result["images"][0]) == (9, 8, 7)
    assert (tmp_path / "runs").read_text() == "2"
    left = {
        path: path.read_bytes()
        for path in (*inputs.rglob("*"), *outputs.rglob("*"))
        if path.is_file()
    }
    assert left == old


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


def test_a_job_that_loses_its_comfyui_says_which_node_ran(worker: WorkerUnderTest) -> None:
    job = worker.start({"workflow": {"7": node("TestSleepOutput", seconds=60.0)}})
    for _ in range(2):
        job.updates.clear()
        wait_until(lambda: job.updates)
        os.kill(worker.comfyui_pid(), signal.SIGKILL)
    result = job.result()

    assert result["error_code"] == "COMFYUI_CRASHED"
    assert "the last node that it began was node 7 (TestSleepOutput)" in result["error"]
    (detail,) = result["details"]
    assert (detail["node_id"], detail["class_type"]) == ("7", "TestSleepOutput")
    assert_next_job_works(worker)


def test_a_comfyui_that_dies_while_idle_is_back_before_the_worker_is_ready_again(
    worker: WorkerUnderTest,
) -> None:
    before = worker.comfyui_pid()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not worker.worker.is_ready, 8)
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
    wait_until(lambda: not worker.worker.is_ready, 8)
    started = time.monotonic()
    job.cancel()

    assert job.was_cancelled()
    assert time.monotonic() - started < 8
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
        assert time.monotonic() - started < 8


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
            wait_until(lambda: not worker.worker.is_ready, 8)
            result = worker.run({"workflow": {"1": node("TestFail", message="no")}})
            assert result["error_code"] == "EXECUTION_FAILED"
            assert not worker.worker.must_retire


# --- a job that would do the same to any ComfyUI


def restarted(worker: WorkerUnderTest, before: int) -> bool:
    return not alive(before) and worker.worker.is_ready


@pytest.mark.parametrize("error", ["SystemExit", "KeyboardInterrupt", "CancelledError"])
def test_a_job_that_ends_comfyui_s_executor_fails_at_once_and_is_not_run_again(
    worker: WorkerUnderTest, tmp_path: Path, error: str
) -> None:
    started = time.monotonic()
    counter = str(tmp_path / "runs")
    result = worker.run(
        {"workflow": {"1": node("TestEndExecutor", error=error, times=9, counter=counter)}}
    )

    assert result["error_code"] == "COMFYUI_CRASHED"
    assert f"a node ended the thread of ComfyUI that runs workflows with {error}" in result["error"]
    assert result["retryable"] is False
    assert (tmp_path / "runs").read_text() == "1"
    assert time.monotonic() - started < 10
    assert_next_job_works(worker)


def test_such_jobs_never_use_up_the_restarts(tmp_path: Path) -> None:
    with running_worker(tmp_path, COMFY_MAX_RESTARTS="1") as worker:
        for _ in range(3):
            result = worker.run({"workflow": {"1": node("TestEndExecutor", error="SystemExit")}})
            assert result["error_code"] == "COMFYUI_CRASHED"
            assert "refresh_worker" not in result
        assert_next_job_works(worker)


def test_an_error_of_half_a_character_fails_the_job_only(
    worker: WorkerUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "worker_comfyui.worker")  # the test runner cannot report it
    result = worker.run({"workflow": {"1": node("TestEndExecutor", error="surrogate")}})

    # The real ComfyUI cannot print it, and ends.
    assert result["error_code"] == ("COMFYUI_CRASHED" if REAL_COMFYUI else "EXECUTION_FAILED")
    assert result["retryable"] is False
    assert_next_job_works(worker)


def test_a_comfyui_whose_gpu_is_lost_is_replaced_after_the_job(worker: WorkerUnderTest) -> None:
    before = worker.comfyui_pid()
    message = "CUDA error: an illegal memory access was encountered"
    result = worker.run({"workflow": {"1": node("TestFail", message=message)}})

    assert result["error_code"] == "EXECUTION_FAILED"
    assert message in result["error"]
    wait_until(lambda: restarted(worker, before))
    assert_next_job_works(worker)


def test_a_comfyui_without_file_descriptors_is_replaced_after_the_job(
    worker: WorkerUnderTest,
) -> None:
    before = worker.comfyui_pid()
    result = worker.run({"workflow": {"1": node("TestTakeFiles")}})

    assert result["error_code"] in {"EXECUTION_FAILED", "COMFYUI_CRASHED"}
    assert result["retryable"] is False
    wait_until(lambda: restarted(worker, before))
    assert_next_job_works(worker)


# --- what looks like a failure, and is none


def test_a_node_that_lets_nothing_else_run_is_not_taken_for_a_freeze(
    worker: WorkerUnderTest,
) -> None:
    before = worker.comfyui_pid()
    result = worker.run({"workflow": {"1": node("TestBusy", seconds=3 * HANG_S)}})

    assert result["texts"] == [{"node_id": "1", "text": "done"}]
    assert worker.comfyui_pid() == before


def is_silent(worker: WorkerUnderTest) -> bool:
    """Tell whether ComfyUI gives no answer for as long as a frozen one is given."""
    incarnation = worker.supervisor.wait_ready()
    assert incarnation is not None
    try:
        requests.get(f"http://{incarnation.address}/prompt", timeout=HANG_S)
    except requests.RequestException:
        return True
    return False


def test_two_hundred_large_previews_are_not_taken_for_a_freeze(worker: WorkerUnderTest) -> None:
    before = worker.comfyui_pid()
    job = worker.start({"workflow": {"1": node("TestPreviews", count=200, seconds=3 * HANG_S)}})
    was_silent = False
    while not (was_silent or job.future.done()):
        was_silent = is_silent(worker)
    result = job.result()

    assert result["texts"] == [{"node_id": "1", "text": "shown"}]
    assert worker.comfyui_pid() == before
    assert_next_job_works(worker)
    if not was_silent:  # on a busy machine it makes them too slowly for that
        pytest.skip("this ComfyUI answered while it showed them")


def test_the_executor_s_end_is_noticed_at_once_though_nothing_is_answered(
    worker: WorkerUnderTest,
) -> None:
    started = time.monotonic()
    shown = node("TestPreviews", count=200, seconds=90, then="exit")
    result = worker.run({"workflow": {"1": shown}})

    assert result["error_code"] == "COMFYUI_CRASHED"
    assert "SystemExit" in result["error"]
    assert result["retryable"] is False
    assert time.monotonic() - started < 30
    assert_next_job_works(worker)


# --- what it leaves behind


def test_what_a_node_has_started_ends_with_comfyui(worker: WorkerUnderTest) -> None:
    result = worker.run({"workflow": {"1": node("TestDetach")}})
    pid = int(result["texts"][0]["text"])
    assert alive(pid)
    os.kill(worker.comfyui_pid(), signal.SIGKILL)

    wait_until(lambda: not alive(pid))
    assert_next_job_works(worker)


def test_what_a_node_printed_before_the_crash_is_in_the_log_with_the_job(
    worker: WorkerUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "comfyui")
    caplog.handler.addFilter(logs._add_context)
    workflow = {"1": node("TestPrint", text="last words", count=2, then="kill")}
    worker.run({"workflow": workflow}, id="job-of-the-words")

    lines = [r for r in caplog.records if r.getMessage() == "last words"]
    assert len(lines) == 4  # two runs
    assert {vars(line)["context"]["job_id"] for line in lines} == {"job-of-the-words"}
    assert_next_job_works(worker)


def test_comfyui_does_not_know_the_worker_s_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RUNPOD_AI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, f"value of {name}")
    with running_worker(tmp_path, COMFY_ENV_PASS="HF_TOKEN") as worker:
        names = "RUNPOD_AI_API_KEY,HF_TOKEN,AWS_SECRET_ACCESS_KEY,OPENAI_API_KEY"
        result = worker.run({"workflow": {"1": node("TestTellEnvironment", names=names)}})

    assert json.loads(result["texts"][0]["text"]) == {
        "RUNPOD_AI_API_KEY": None,
        "HF_TOKEN": "value of HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY": None,
        "OPENAI_API_KEY": "value of OPENAI_API_KEY",
    }
