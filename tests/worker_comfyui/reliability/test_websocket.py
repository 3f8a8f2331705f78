"""The connection between the worker and ComfyUI fails: the job ends right, from history."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.comfyui import ComfyUI, running_comfyui
from tests.support.comfyui_proxy import ComfyUIProxy, proxying_comfyui
from tests.support.waiting import wait_until
from tests.support.worker import RunningJob, WorkerUnderTest, remote_worker
from tests.support.workflows import color_of, node, saved_image

POLL_S = 0.5


@dataclass
class Line:
    """A worker, a ComfyUI that somebody else runs, and the proxy between them."""

    worker: WorkerUnderTest
    proxy: ComfyUIProxy
    comfyui: ComfyUI

    def wait_for_websockets(self, count: int) -> None:
        """Wait until so many were opened in all."""
        wait_until(lambda: self.proxy.websockets == count, 5)

    def slow_job(self, seconds: float, counter: Path) -> RunningJob:
        """Start a job that takes a while and counts how often it ran; wait until it runs."""
        workflow = {
            "1": node("TestSleep", seconds=seconds),
            "2": node("TestSaveCached", text=str(counter), name="slow.txt", counter=str(counter)),
            "3": node("TestSleepOutput", seconds=seconds, any=["1", 0]),
        }
        job = self.worker.start({"workflow": workflow})
        wait_until(lambda: self.comfyui.get("/queue").json()["queue_running"])
        return job


@pytest.fixture(scope="module")
def shared_line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    with (
        running_comfyui(tmp_path_factory.mktemp("comfyui")) as comfyui,
        proxying_comfyui(comfyui.address) as proxy,
        remote_worker(
            proxy.address,
            comfyui.base,
            COMFY_POLL_INTERVAL_S=str(POLL_S),
            WEBSOCKET_RECONNECT_DELAY_S="0.1",
            COMFY_HANG_TIMEOUT_S="60",
        ) as worker,
    ):
        yield Line(worker, proxy, comfyui)


@pytest.fixture
def line(shared_line: Line) -> Iterator[Line]:
    yield shared_line
    proxy = shared_line.proxy
    proxy.refuse = proxy.refuse_websockets = proxy.mute_websockets = False
    proxy.hold_server_ends = False
    proxy.lose_answer_to = b""
    proxy.cut_websocket_after = None


def assert_ran_once(job: RunningJob, counter: Path, seconds: float) -> None:
    result = job.result()
    assert [text["text"] for text in result["texts"]] == [f"slept {seconds} s"]
    assert counter.read_text() == "1"
    assert "errors" not in result


def test_jobs_share_one_websocket(line: Line) -> None:
    line.worker.run({"workflow": saved_image(0x0A0A0A)})
    opened = line.proxy.websockets
    for color in range(3):
        line.worker.run({"workflow": saved_image(color)})
    assert line.proxy.websockets == opened


def test_a_websocket_that_comfyui_notices_late_to_be_gone_does_not_mute_the_next_one(
    line: Line,
) -> None:
    line.worker.run({"workflow": saved_image(0x0B0B0B)})
    line.proxy.hold_server_ends = True
    assert line.proxy.drop_websockets() == 1
    sleep = {"8": node("TestSleep", seconds=1.0)}
    job = line.worker.start(
        {"workflow": {**sleep, "9": node("TestSleepOutput", seconds=0.5, any=["8", 0])}}
    )
    wait_until(lambda: any(update["node"] == "TestSleep" for update in job.updates))
    line.proxy.hold_server_ends = False

    job.result()
    assert any(update["node"] == "TestSleepOutput" for update in job.updates)


@pytest.mark.parametrize("times", [1, 3])
def test_a_websocket_that_drops_is_opened_again_and_the_job_runs_once(
    line: Line, tmp_path: Path, times: int
) -> None:
    job = line.slow_job(0.8, tmp_path / "runs")
    opened = line.proxy.websockets
    for count in range(1, times + 1):
        assert line.proxy.drop_websockets() == 1
        line.wait_for_websockets(opened + count)

    assert_ran_once(job, tmp_path / "runs", 0.8)
    assert line.proxy.websockets == opened + times


def test_a_websocket_that_drops_at_any_moment_costs_no_job_and_little_time(line: Line) -> None:
    seen = line.proxy.bytes_seen
    line.worker.run({"workflow": saved_image(0x101010)})
    whole = line.proxy.bytes_seen - seen
    assert whole > 500  # the frames of a job

    for cut in range(0, whole + 1, whole // 16):
        line.proxy.cut_websocket_after = cut
        started = time.monotonic()
        result = line.worker.run({"workflow": saved_image(cut)})
        assert color_of(result["images"][0]) == (cut >> 16, cut >> 8 & 255, cut & 255)
        assert time.monotonic() - started < POLL_S + 8


def test_a_job_ends_from_history_when_the_websocket_says_nothing(line: Line) -> None:
    line.proxy.mute_websockets = True
    started = time.monotonic()
    result = line.worker.run({"workflow": saved_image(0x123456)})

    assert color_of(result["images"][0]) == (0x12, 0x34, 0x56)
    assert time.monotonic() - started < POLL_S + 8


def test_a_missed_final_event_costs_no_more_than_the_slow_timer(line: Line, tmp_path: Path) -> None:
    job = line.slow_job(0.3, tmp_path / "runs")
    line.proxy.mute_websockets = True
    wait_until(lambda: not line.comfyui.get("/queue").json()["queue_running"])
    ended = time.monotonic()

    assert_ran_once(job, tmp_path / "runs", 0.3)
    assert time.monotonic() - ended < POLL_S + 8


def test_a_job_ends_from_history_when_no_websocket_can_be_opened(line: Line) -> None:
    line.proxy.refuse_websockets = True
    opened = line.proxy.websockets
    started = time.monotonic()
    result = line.worker.run({"workflow": saved_image(0x654321)})

    assert color_of(result["images"][0]) == (0x65, 0x43, 0x21)
    assert line.proxy.websockets == opened
    assert time.monotonic() - started < POLL_S + 8


def test_the_websocket_comes_back_after_it_was_refused_for_a_while(
    line: Line, tmp_path: Path
) -> None:
    job = line.slow_job(0.6, tmp_path / "runs")
    line.proxy.refuse_websockets = True
    assert line.proxy.drop_websockets() == 1
    opened = line.proxy.websockets
    time.sleep(0.3)
    line.proxy.refuse_websockets = False

    assert_ran_once(job, tmp_path / "runs", 0.6)
    assert line.proxy.websockets > opened


def test_a_comfyui_that_refuses_everything_for_a_while_does_not_cost_the_job(
    line: Line, tmp_path: Path
) -> None:
    job = line.slow_job(0.5, tmp_path / "runs")
    line.proxy.refuse = True
    line.proxy.drop_all()
    time.sleep(1.5)  # the workflow ends meanwhile
    line.proxy.refuse = False

    assert_ran_once(job, tmp_path / "runs", 0.5)


def test_a_prompt_whose_answer_is_lost_on_the_way_runs_once(line: Line, tmp_path: Path) -> None:
    line.proxy.lose_answer_to = b"POST /prompt"
    counter = tmp_path / "runs"
    workflow = {
        "2": node("TestSaveCached", text=str(counter), name="once.txt", counter=str(counter))
    }
    result = line.worker.run({"workflow": workflow})

    assert line.proxy.lose_answer_to == b""
    assert [file["filename"] for file in result["files"]] == ["once.txt"]
    assert counter.read_text() == "1"


def test_a_job_that_arrives_while_everything_is_refused_waits_for_comfyui(line: Line) -> None:
    line.proxy.refuse = True
    line.proxy.drop_all()
    job = line.worker.start({"workflow": saved_image(0xABCDEF)})
    time.sleep(0.7)
    assert not job.future.done()
    line.proxy.refuse = False

    assert color_of(job.result()["images"][0]) == (0xAB, 0xCD, 0xEF)


@pytest.mark.parametrize("saved_before", [False, True], ids=["nothing saved", "a file saved"])
def test_an_interrupt_by_somebody_else_is_an_error_never_a_success(
    line: Line, saved_before: bool
) -> None:
    workflow = {
        **(saved_image(0x111111) if saved_before else {}),
        "8": node("TestSleep", seconds=30),
        "9": node("TestSleepOutput", seconds=0, any=["8", 0]),
    }
    job = line.worker.start({"workflow": workflow})
    wait_until(lambda: any(update["node"] == "TestSleep" for update in job.updates))
    line.comfyui.post("/interrupt")

    result = job.result()
    assert result["error_code"] == "INTERRUPTED"
    assert result["retryable"] is True
    assert "images" not in result
    assert "node 8 (TestSleep)" in result["error"]


def test_a_node_that_raises_an_interrupt_is_an_error(line: Line) -> None:
    result = line.worker.run({"workflow": {"1": node("TestRaiseInterrupt")}})

    assert result["error_code"] == "INTERRUPTED"


def test_a_prompt_that_somebody_deletes_from_the_queue_is_sent_once_more(
    line: Line, tmp_path: Path
) -> None:
    theirs = line.comfyui.submit({"1": node("TestSleepOutput", seconds=1.5)})
    wait_until(lambda: line.comfyui.get("/queue").json()["queue_running"])
    counter = tmp_path / "runs"
    job = line.worker.start(
        {"workflow": {"1": node("TestSaveCached", text="x", name="q.txt", counter=str(counter))}}
    )
    wait_until(lambda: line.comfyui.get("/queue").json()["queue_pending"])
    line.comfyui.post("/queue", json={"clear": True})

    assert [file["filename"] for file in job.result()["files"]] == ["q.txt"]
    assert counter.read_text() == "1"
    assert line.comfyui.wait(theirs)["status"]["status_str"] == "success"


def test_proxies_in_the_environment_are_not_used_for_comfyui(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing answers there
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    line.proxy.drop_all()
    opened = line.proxy.websockets
    result = line.worker.run({"workflow": saved_image(0x0F0F0F)})

    assert color_of(result["images"][0]) == (15, 15, 15)
    assert line.proxy.websockets == opened + 1


def test_jobs_wait_for_a_comfyui_of_somebody_else_that_is_started_again(tmp_path: Path) -> None:
    with running_comfyui(tmp_path / "first") as comfyui:
        port = comfyui.port
        with remote_worker(
            comfyui.address, comfyui.base, COMFY_HANG_TIMEOUT_S="1", COMFY_POLL_INTERVAL_S="0.2"
        ) as worker:
            job = worker.start({"workflow": {"1": node("TestSleepOutput", seconds=1.0)}})
            wait_until(lambda: job.updates)
            comfyui.process.kill()
            comfyui.process.wait()
            wait_until(lambda: not worker.worker.is_ready, 10)
            with running_comfyui(tmp_path / "second", port=port):
                assert job.result()["texts"] == [{"node_id": "1", "text": "slept 1.0 s"}]
            assert not worker.worker.must_retire


def test_a_comfyui_of_somebody_else_that_stays_away_retires_the_worker(tmp_path: Path) -> None:
    with (
        running_comfyui(tmp_path) as comfyui,
        remote_worker(
            comfyui.address, comfyui.base, COMFY_HANG_TIMEOUT_S="1", COMFY_START_TIMEOUT_S="1"
        ) as worker,
    ):
        comfyui.process.kill()
        comfyui.process.wait()
        started = time.monotonic()
        result = worker.run({"workflow": saved_image()})

        assert result["error_code"] == "COMFYUI_CRASHED"
        assert result["refresh_worker"] is True
        assert time.monotonic() - started < 15
