"""Several workers, one volume, one model that none of them has."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.comfyui import prepare_base
from tests.support.hub import Hub, safetensors
from tests.support.platform import ROOT, RunningPlatform, running_platform
from tests.support.waiting import wait_until
from tests.support.worker import worker_environment
from worker_comfyui.models.transfer.partial import PIECE_BYTES

NODES = (ROOT / "tests" / "nodes" / "model_nodes.py",)
KEY = "owner/pack/large.safetensors"
MEGA = 1_000_000
CONTENT = safetensors(120 * MEGA)
WORKERS = 3
CONNECTIONS = 8


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(folder=tmp_path / "hub", one_port=True).running() as hub:
        hub.add(KEY, CONTENT)
        hub.bytes_per_s = 4 * MEGA
        yield hub


@contextmanager
def workers(hub: Hub, volume: Path) -> Iterator[RunningPlatform]:
    """Run three of them on one volume."""
    volume.mkdir()

    def environment(folder: Path) -> Mapping[str, str]:
        prepare_base(folder / "base", NODES)
        return worker_environment(
            folder / "base",
            ALLOW_MODEL_DOWNLOADS="true",
            HF_ENDPOINT=hub.url,
            RUNPOD_VOLUME_PATH=str(volume),
        )

    with running_platform(
        [sys.executable, "handler.py"], folder=ROOT, worker_env=environment, workers=WORKERS
    ) as platform:
        yield platform


def request() -> dict[str, Any]:
    entry = {"folder": "loras", "name": Path(KEY).name, "url": f"hf://{KEY}"}
    node = {"class_type": "PackLoraLoader", "inputs": {"weights": Path(KEY).name}}
    return {"workflow": {"1": node}, "models": [entry]}


def test_a_model_that_three_workers_want_at_once_is_fetched_once(hub: Hub, tmp_path: Path) -> None:
    with workers(hub, tmp_path / "volume") as platform:
        jobs = [platform.wait(job, 120) for job in [platform.run(request()) for _ in range(3)]]
    assert [job["status"] for job in jobs] == ["COMPLETED"] * 3, jobs
    assert len({job["workerId"] for job in jobs}) == WORKERS
    texts = [job["output"]["texts"] for job in jobs]
    assert texts == [[{"node_id": "1", "text": Path(KEY).name}]] * 3
    told = [model["from"] for job in jobs for model in job["output"].get("models", [])]
    assert told == ["fetched"]
    assert hub.sent(KEY) == len(CONTENT)
    stored = tmp_path / "volume" / "fetched-models" / "models" / "loras" / Path(KEY).name
    assert stored.read_bytes() == CONTENT


def test_the_worker_that_fetches_is_killed_and_another_goes_on(hub: Hub, tmp_path: Path) -> None:
    with workers(hub, tmp_path / "volume") as platform:
        first = platform.run(request())
        wait_until(lambda: hub.at_once == CONNECTIONS)
        hub.bytes_per_s = MEGA // 4  # of what is asked for from now on: half a minute a piece
        wait_until(lambda: hub.sent_so_far(KEY) >= 5 * PIECE_BYTES)
        fetches = platform.status(first)["workerId"]
        second = platform.run(request())
        platform.wait_for(second, lambda job: "another worker" in str(job.get("output")))
        os.kill(platform.worker_pids()[fetches], signal.SIGKILL)
        hub.bytes_per_s = None
        jobs = [platform.wait(job, 120) for job in (first, second)]
    assert [job["status"] for job in jobs] == ["COMPLETED"] * 2, jobs
    assert jobs[0]["retries"] == 1
    told = [model for job in jobs for model in job["output"].get("models", [])]
    assert [model["from"] for model in told] == ["fetched"]
    # What was whole when it was killed did not come again, only what was on the way.
    assert told[0]["received_bytes"] <= len(CONTENT) - 5 * PIECE_BYTES
    assert hub.sent(KEY) < len(CONTENT) + CONNECTIONS * PIECE_BYTES
