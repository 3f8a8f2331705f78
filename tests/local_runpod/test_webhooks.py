from __future__ import annotations

from typing import Any

import pytest

from tests.support.platform import RunningPlatform
from tests.support.receiver import receiving


@pytest.mark.parametrize(
    "job_input", [{"x": 1}, {"result": {"error": "E", "code": 7}}], ids=["success", "failure"]
)
def test_a_webhook_gets_the_job_with_its_input(
    platform: RunningPlatform, job_input: dict[str, Any]
) -> None:
    with receiving(200) as receiver:
        job = platform.run_sync(job_input, webhook=receiver.url)
        (call,) = receiver.wait(1)
    assert call == {**job, "input": job_input, "webhook": receiver.url}
    assert receiver.headers[0]["Content-Type"] == "application/json"


def test_a_webhook_learns_of_cancelled_and_expired_jobs(gateway: RunningPlatform) -> None:
    with receiving(200) as receiver:
        cancelled = gateway.run({}, webhook=receiver.url)
        gateway.post(f"/cancel/{cancelled}")
        expired = gateway.run({}, webhook=receiver.url, policy={"ttl": 200})
        calls = {call["id"]: call["status"] for call in receiver.wait(2)}
    assert calls == {cancelled: "CANCELLED", expired: "TIMED_OUT"}


def test_a_failing_receiver_gets_three_tries(gateway: RunningPlatform) -> None:
    with receiving(500) as receiver:
        job_id = gateway.run({}, webhook=receiver.url)
        gateway.post(f"/cancel/{job_id}")
        calls = receiver.wait(3)
    assert calls[0] == calls[1] == calls[2]


def test_a_receiver_that_recovers_gets_no_further_tries(gateway: RunningPlatform) -> None:
    with receiving(503, 204) as receiver:
        gateway.post(f"/cancel/{gateway.run({}, webhook=receiver.url)}")
        receiver.wait(2)


def test_a_silent_or_absent_receiver_delays_no_job(platform: RunningPlatform) -> None:
    with receiving(200) as silent:
        silent.may_answer.clear()
        for url in (silent.url, "http://127.0.0.1:1/nobody", silent.url):
            assert platform.run_sync({"x": 1}, webhook=url)["status"] == "COMPLETED"
        assert len(silent.calls) >= 1
