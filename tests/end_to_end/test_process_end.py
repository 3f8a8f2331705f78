from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from tests.support.handler import (
    Handler,
    handler_environment,
    on_platform,
    recorded_posts,
    running_endpoint,
    running_handler,
)
from tests.support.platform import RunningPlatform, running_platform
from tests.support.waiting import comes_true
from tests.support.workflows import node, saved_image

SLEEP = {"1": node("TestSleepOutput", seconds=2.0)}
KILL = {"1": node("TestKill")}


def gone(pids: list[int], seconds: float = 3.0) -> bool:
    """Wait until none of these processes runs."""
    return comes_true(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), seconds)


def group_members(group: int) -> list[int]:
    """The processes of a group: the worker and the SDK's sender of pings."""
    pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    found = []
    for pid in pids:
        with suppress(ProcessLookupError):
            if os.getpgid(pid) == group:
                found.append(pid)
    return found


def recorded_pings(platform: RunningPlatform) -> list[str]:
    """The workers that ping from now on, once for each ping."""
    pings: list[str] = []
    registry = platform.background.platform.registry
    take = registry.ping

    def record(worker_id: str) -> None:
        pings.append(worker_id)
        take(worker_id)

    registry.ping = record  # type: ignore[method-assign]
    return pings


def running_prompts(handler: Handler) -> int:
    queue = requests.get(f"{handler.comfyui_url()}/queue", timeout=5).json()
    return len(queue["queue_running"])


# --- SIGTERM and SIGINT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_ends_at_once(number: int, tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as (_, handler):
        comfyui = handler.comfyui_pids()
        assert comfyui
        sent = time.monotonic()
        handler.signal(number)
        assert handler.wait(10) == 0
        # Within a second on a machine of its own; the poll that it does not wait for takes 5.
        assert time.monotonic() - sent < 4.5
        assert gone(comfyui)


def test_a_job_in_flight_is_finished_and_posted_before_the_worker_ends(tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as (platform, handler):
        comfyui = handler.comfyui_pids()
        job_id = platform.run({"workflow": SLEEP})
        handler.wait_until(lambda: running_prompts(handler) == 1)
        next_id = platform.run({"workflow": SLEEP})
        handler.signal(signal.SIGTERM)
        assert handler.wait(15) == 0
        job = platform.status(job_id)
        assert job["status"] == "COMPLETED"
        assert job["output"]["texts"][0]["text"] == "slept 2.0 s"
        assert platform.status(next_id)["status"] == "IN_QUEUE"
        assert gone(comfyui)


def test_a_worker_that_ends_after_a_deadline_brings_the_operator_s_files_back(
    tmp_path: Path,
) -> None:
    old = tmp_path / "theirs" / "old.png"
    old.parent.mkdir()
    old.write_bytes(b"old")
    flags = handler_environment(tmp_path)["COMFYUI_ARGS"] + f" --output-directory {old.parent}"
    hanging = {"workflow": {"1": node("TestHang", seconds=30.0)}, "timeout_s": 1}
    with running_endpoint(tmp_path, COMFYUI_ARGS=flags) as (platform, handler):
        job = platform.run_sync(hanging)
        assert job["status"] == "FAILED"
        assert not old.exists(), "the node hangs still, and the folder is the job's"
        handler.signal(signal.SIGTERM)
        assert handler.wait(15) == 0
    assert [path.name for path in old.parent.iterdir()] == ["old.png"]
    assert old.read_bytes() == b"old"


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.1, 0.2])
def test_a_job_that_comes_on_the_pending_poll_after_the_signal_is_not_lost(
    delay_s: float, tmp_path: Path
) -> None:
    with running_endpoint(tmp_path) as (platform, handler):
        handler.signal(signal.SIGTERM)
        time.sleep(delay_s)
        job_id = platform.run({"workflow": saved_image()})
        assert handler.wait(10) == 0
        # It waits for another worker, or it came just before the end and was done.
        job = platform.wait_for(job_id, lambda job: job["status"] != "IN_PROGRESS", 15)
        assert job["status"] in {"IN_QUEUE", "COMPLETED"}


@pytest.mark.parametrize("moment", ["sdk_import", "comfyui_start", "warm_up"])
def test_a_worker_that_is_still_starting_ends_cleanly(moment: str, tmp_path: Path) -> None:
    slow = tmp_path / "slow_nodes.py"
    slow.write_text("import time\ntime.sleep(60)\nNODE_CLASS_MAPPINGS = {}\n")
    warm_up = tmp_path / "warm-up.json"
    warm_up.write_text('{"1": {"class_type": "TestSleepOutput", "inputs": {"seconds": 60}}}')
    nodes = [Path("tests/nodes/fault_nodes.py").resolve()]
    with running_platform() as platform:
        base = tmp_path / "base"
        environment = handler_environment(base, **on_platform(platform))
        if moment == "warm_up":
            environment["WARMUP_WORKFLOW"] = str(warm_up)
        else:
            nodes.append(slow)
        with running_handler(base, environment, extra_nodes=nodes) as handler:
            handler.wait_until(lambda: "starting ComfyUI" in handler.log())
            handler.wait_until(handler.comfyui_pids)
            if moment == "comfyui_start":
                time.sleep(4)  # the SDK is imported by now
            elif moment == "warm_up":
                handler.wait_for_event("prompt_queued")
            comfyui = handler.comfyui_pids()
            sent = time.monotonic()
            handler.signal(signal.SIGTERM)
            assert handler.wait(10) == 0
            assert time.monotonic() - sent < 5
            assert gone(comfyui)
            assert not any("traceback" in line for line in handler.lines())


# --- SIGKILL


def test_comfyui_does_not_survive_a_worker_that_is_killed(tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as (platform, handler):
        job_id = platform.run({"workflow": SLEEP})
        handler.wait_until(lambda: running_prompts(handler) == 1)
        comfyui = handler.comfyui_pids()
        handler.signal(signal.SIGKILL)
        assert handler.wait(5) == -signal.SIGKILL
        assert gone(comfyui)
        assert platform.status(job_id)["status"] == "IN_PROGRESS"  # nothing was posted


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_killed_worker_sends_no_pings_any_more(method: str, tmp_path: Path) -> None:
    # Python's default differs between systems, and from 3.14 on.
    (tmp_path / "sitecustomize.py").write_text(
        f"import multiprocessing\nmultiprocessing.set_start_method({method!r})\n"
    )
    base = tmp_path / "base"
    with (
        # Python's sockets for new processes lie there, and nobody removes those of the killed.
        tempfile.TemporaryDirectory() as left,
        running_endpoint(base, PYTHONPATH=str(tmp_path), TMPDIR=left) as (platform, handler),
    ):
        pings = recorded_pings(platform)
        handler.wait_until(lambda: pings)
        members = group_members(handler.process.pid)
        assert len(members) > 1
        handler.signal(signal.SIGKILL)
        handler.wait(5)
        # An orphan that still reports the worker's jobs would keep them from being run again.
        assert gone(members)


def test_a_worker_that_is_killed_while_its_sender_of_pings_starts_sends_none(
    tmp_path: Path,
) -> None:
    # A process that is spawned imports the SDK first.
    (tmp_path / "sitecustomize.py").write_text(
        "import multiprocessing\nmultiprocessing.set_start_method('spawn')\n"
    )
    base = tmp_path / "base"
    with (
        # Python's sockets for new processes lie there, and nobody removes those of the killed.
        tempfile.TemporaryDirectory() as left,
        running_endpoint(base, PYTHONPATH=str(tmp_path), TMPDIR=left) as (platform, handler),
    ):
        pings = recorded_pings(platform)
        members = group_members(handler.process.pid)
        handler.signal(signal.SIGKILL)
        handler.wait(5)
        assert gone(members, 30)
        assert pings == []


def test_an_ended_worker_leaves_no_sender_of_pings(tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as (_, handler):
        members = group_members(handler.process.pid)
        assert len(members) > 1
        handler.signal(signal.SIGTERM)
        assert handler.wait(10) == 0
        assert gone(members)


# --- giving up


def test_a_worker_whose_comfyui_dies_for_good_says_so_and_ends(tmp_path: Path) -> None:
    with running_endpoint(tmp_path, COMFY_MAX_RESTARTS="1") as (platform, handler):
        posts = recorded_posts(platform)
        job_id = platform.run({"workflow": KILL})
        next_id = platform.run({"workflow": saved_image()})
        assert handler.wait(30) == 1
        job = platform.status(job_id)
        assert job["status"] == "FAILED"
        assert job["error"].startswith("COMFYUI_CRASHED: ")
        assert [post.body.get("stopPod") for post in posts if not post.is_progress] == [True]
        assert platform.status(next_id)["status"] == "IN_QUEUE"
        assert "worker_retired" in handler.events()


def test_a_worker_whose_comfyui_dies_for_good_while_idle_ends(tmp_path: Path) -> None:
    with running_endpoint(tmp_path, COMFY_MAX_RESTARTS="0") as (platform, handler):
        for pid in handler.comfyui_pids():
            os.kill(pid, signal.SIGKILL)
        assert handler.wait(5) == 1
        assert "worker_retired" in handler.events()
        job_id = platform.run({"workflow": saved_image()})
        assert platform.status(job_id)["status"] == "IN_QUEUE"


def test_a_comfyui_that_dies_while_idle_is_restarted_before_the_next_job_is_taken(
    tmp_path: Path,
) -> None:
    slow = tmp_path / "slow_nodes.py"
    slow.write_text("import time\ntime.sleep(1.5)\nNODE_CLASS_MAPPINGS = {}\n")
    with running_endpoint(tmp_path / "base", extra_nodes=(slow,)) as (platform, handler):
        for pid in handler.comfyui_pids():
            os.kill(pid, signal.SIGKILL)
        handler.wait_until(lambda: "starting it again" in handler.log())
        time.sleep(0.3)  # the pending poll is dropped meanwhile
        job_id = platform.run({"workflow": saved_image()})
        while handler.events().count("comfyui_ready") < 2:
            assert platform.status(job_id)["status"] == "IN_QUEUE"
            assert handler.process.poll() is None, handler.log()
            time.sleep(0.02)
        assert platform.wait(job_id)["status"] == "COMPLETED"


def test_the_platform_replaces_a_worker_that_retired(tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / "custom_nodes").mkdir(parents=True)
    (base / "custom_nodes" / "fault_nodes.py").write_bytes(
        Path("tests/nodes/fault_nodes.py").read_bytes()
    )
    environment = handler_environment(base, COMFY_MAX_RESTARTS="0")
    with running_platform([sys.executable, "handler.py"], env=environment) as platform:
        (first,) = platform.worker_pids()
        assert platform.run_sync({"workflow": KILL})["status"] == "FAILED"
        job = platform.wait(platform.run({"workflow": saved_image()}), 60)
        assert job["status"] == "COMPLETED", platform.log()
        assert job["workerId"] != first
