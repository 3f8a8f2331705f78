"""RunPod's own Python client, unchanged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.platform import RunningPlatform, running_platform


@pytest.fixture(scope="module")
def runpod_module() -> Iterator[Any]:
    """The SDK; its import configures logging for the whole process."""
    handlers = logging.root.handlers[:]
    import runpod  # noqa: PLC0415 - takes two seconds

    logging.root.handlers = handlers
    before = (runpod.api_key, runpod.endpoint_url_base)
    yield runpod
    runpod.api_key, runpod.endpoint_url_base = before


def endpoint(runpod: Any, platform: RunningPlatform, base: str = "/v2") -> Any:
    runpod.api_key = "any"
    runpod.endpoint_url_base = platform.url + base
    return runpod.Endpoint("endpoint-id")


@pytest.mark.parametrize("base", ["/v2", "/v2/"])
def test_run_sync_returns_the_output(
    platform: RunningPlatform, runpod_module: Any, base: str
) -> None:
    client = endpoint(runpod_module, platform, base)
    assert client.run_sync({"input": {"x": 1}}) == {"echo": {"x": 1}}
    assert client.run_sync({"x": 2}) == {"echo": {"x": 2}}


def test_run_status_and_output(platform: RunningPlatform, runpod_module: Any) -> None:
    job = endpoint(runpod_module, platform).run({"input": {"x": 1, "sleep": 0.5}})
    assert job.status() in {"IN_QUEUE", "IN_PROGRESS"}
    assert job.output(timeout=20) == {"echo": {"x": 1, "sleep": 0.5}}
    assert job.status() == "COMPLETED"


def test_cancel(platform: RunningPlatform, runpod_module: Any) -> None:
    job = endpoint(runpod_module, platform).run({"input": {"sleep": 60}})
    assert job.cancel()["status"] == "CANCELLED"
    assert job.status() == "CANCELLED"
    assert job.output(timeout=2) is None


def test_stream_of_a_handler_that_streams_nothing_ends(
    platform: RunningPlatform, runpod_module: Any
) -> None:
    job = endpoint(runpod_module, platform).run({"input": {"x": 1}})
    assert list(job.stream()) == []


def test_health_and_purge_queue(gateway: RunningPlatform, runpod_module: Any) -> None:
    client = endpoint(runpod_module, gateway)
    client.run({"input": {"x": 1}})
    assert client.health()["jobs"]["inQueue"] == 1
    assert client.purge_queue() == {"removed": 1, "status": "completed"}


def test_a_wrong_key_is_what_the_sdk_calls_unauthorized(runpod_module: Any) -> None:
    with running_platform(api_keys=("right",)) as gateway:
        client = endpoint(runpod_module, gateway)
        with pytest.raises(RuntimeError, match="401"):
            client.health()
        runpod_module.api_key = "right"
        assert runpod_module.Endpoint("endpoint-id").health()["jobs"]["inQueue"] == 0
