from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from worker_comfyui.comfyui.tracking import Update
from worker_comfyui.platform_side import progress
from worker_comfyui.platform_side.progress import ProgressSender


def update(percent: int) -> Update:
    return {
        "percent": percent,
        "node_id": "1",
        "node": "KSampler",
        "node_percent": percent,
        "message": f"{percent} %",
    }


class Platform:
    """What the platform receives, and when; slow or failing on demand."""

    def __init__(self, *, seconds: float = 0.0, fails: bool = False) -> None:
        self.received: list[tuple[float, int]] = []
        self.on_its_way = 0
        self._seconds = seconds
        self._fails = fails

    async def send(self, sent: Update) -> None:
        """Take an update."""
        self.on_its_way += 1
        try:
            await asyncio.sleep(self._seconds)
            self.received.append((time.monotonic(), sent["percent"]))
            if self._fails:
                raise ConnectionError("refused")
        finally:
            self.on_its_way -= 1

    @property
    def percents(self) -> list[int]:
        """What came, in order."""
        return [percent for _, percent in self.received]


def run(
    platform: Platform,
    job: Callable[[ProgressSender], Awaitable[None]],
    interval_s: float = 0.05,
) -> None:
    async def main() -> None:
        async with ProgressSender(platform.send, interval_s=interval_s) as sender:
            await job(sender)
        assert platform.on_its_way == 0
        ended_with = list(platform.received)
        await asyncio.sleep(min(3 * interval_s, 0.2))
        assert platform.received == ended_with, "something was sent after the block's end"

    asyncio.run(main())


def test_an_update_is_sent_at_once() -> None:
    platform = Platform()

    async def job(sender: ProgressSender) -> None:
        sender.report(update(1))
        await asyncio.sleep(0.02)
        assert platform.percents == [1]

    run(platform, job, interval_s=10)


def test_only_the_newest_is_sent_once_an_interval() -> None:
    platform = Platform()

    async def job(sender: ProgressSender) -> None:
        for percent in range(100):
            sender.report(update(percent))
            await asyncio.sleep(0.005)

    run(platform, job, interval_s=0.1)
    times = [at for at, _ in platform.received]
    assert all(later - earlier >= 0.095 for earlier, later in pairwise(times))
    assert 3 <= len(times) <= 12
    assert platform.percents == sorted(set(platform.percents))


def test_updates_from_another_thread_arrive_in_order() -> None:
    platform = Platform(seconds=0.002)

    async def job(sender: ProgressSender) -> None:
        def work() -> None:
            for percent in range(60):
                sender.report(update(percent))
                time.sleep(0.002)

        await asyncio.to_thread(work)

    run(platform, job, interval_s=0.005)
    assert len(platform.percents) > 5
    assert platform.percents == sorted(set(platform.percents))


def test_the_same_update_is_not_sent_twice() -> None:
    platform = Platform()

    async def job(sender: ProgressSender) -> None:
        for _ in range(5):
            sender.report(update(7))
            await asyncio.sleep(0.03)

    run(platform, job, interval_s=0.01)
    assert platform.percents == [7]


def test_an_update_on_its_way_lands_before_the_block_ends() -> None:
    platform = Platform(seconds=0.2)

    async def job(sender: ProgressSender) -> None:
        sender.report(update(1))
        await asyncio.sleep(0.05)
        sender.report(update(2))

    run(platform, job)
    assert platform.percents == [1]


def test_an_update_that_does_not_land_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LAST_SEND_S", 0.1)
    platform = Platform(seconds=60)

    async def job(sender: ProgressSender) -> None:
        sender.report(update(1))
        await asyncio.sleep(0.02)

    started = time.monotonic()
    run(platform, job)
    assert time.monotonic() - started < 5
    assert platform.percents == []


def test_nothing_is_sent_where_nothing_is_reported() -> None:
    platform = Platform()

    async def job(_sender: ProgressSender) -> None:
        await asyncio.sleep(0)

    run(platform, job)
    assert platform.received == []


def test_a_platform_that_fails_is_no_matter_for_the_job(caplog: pytest.LogCaptureFixture) -> None:
    platform = Platform(fails=True)

    async def job(sender: ProgressSender) -> None:
        sender.report(update(1))
        await asyncio.sleep(0.05)
        sender.report(update(2))
        await asyncio.sleep(0.1)

    run(platform, job, interval_s=0.01)
    assert platform.percents == [1, 2]
    assert "progress could not be sent: refused" in caplog.text


def test_once_stopped_no_more_is_begun() -> None:
    platform = Platform()

    async def job(sender: ProgressSender) -> None:
        sender.stop()
        sender.report(update(1))
        await asyncio.sleep(0.05)

    run(platform, job)
    assert platform.received == []


def test_an_error_in_the_block_comes_through_and_nothing_is_sent_after_it() -> None:
    platform = Platform()

    async def job(sender: ProgressSender) -> None:
        sender.report(update(1))
        raise ValueError("the job failed")

    with pytest.raises(ValueError, match="the job failed"):
        run(platform, job)
    assert platform.on_its_way == 0


def test_a_thread_that_outlives_the_loop_may_still_report() -> None:
    senders: list[ProgressSender] = []

    async def job(sender: ProgressSender) -> None:
        senders.append(sender)

    run(Platform(), job)
    failures: list[BaseException] = []

    def late() -> None:
        try:
            senders[0].report(update(1))
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=late)
    thread.start()
    thread.join()
    assert failures == []


def test_what_comes_while_it_rests_is_sent_after_the_rest() -> None:
    platform = Platform()

    async def job(sender: ProgressSender) -> None:
        sender.report(update(1))
        await asyncio.sleep(0.02)
        sender.report(update(2))
        sender.report(update(3))
        await asyncio.sleep(0.2)

    run(platform, job, interval_s=0.1)
    assert platform.percents == [1, 3]
