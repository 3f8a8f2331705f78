from __future__ import annotations

import threading
import time

import pytest

from worker_comfyui.errors import InputUnavailable, TimedOut
from worker_comfyui.stop import JobCancelled, Stop


def never() -> bool:
    return False


def test_a_job_goes_on_while_there_is_no_reason_to_stop() -> None:
    stop = Stop(never)
    stop.check()
    assert not stop.is_due()
    assert stop.left() == float("inf")
    stop.limit(60)
    stop.check()
    assert not stop.is_due()
    assert 59 < stop.left() <= 60


def test_a_cancelled_job_stops() -> None:
    cancelled = [False]
    stop = Stop(lambda: cancelled[0])
    stop.check()
    cancelled[0] = True
    assert stop.is_due()
    with pytest.raises(JobCancelled):
        stop.check()


def test_the_deadline_counts_from_the_moment_in_which_the_job_was_taken() -> None:
    stop = Stop(never)
    time.sleep(0.06)
    stop.limit(0.05)
    assert stop.is_due()
    assert stop.left() < 0
    with pytest.raises(TimedOut, match=r"deadline of 0\.05 s$"):
        stop.check()


def test_the_error_says_what_the_job_did_with_its_time() -> None:
    stop = Stop(never)
    stop.limit(0.2)
    stop.phase("inputs")
    stop.phase("wait")
    stop.phase("execution")
    time.sleep(0.12)
    stop.phase("wait")
    stop.phase("delivery")
    time.sleep(0.1)
    with pytest.raises(TimedOut) as caught:
        stop.check()
    assert caught.value.message == (
        "the job reached its deadline of 0.2 s while it delivered its files "
        "(inputs 0.0 s, wait 0.0 s, execution 0.1 s, delivery 0.1 s)"
    )


def test_a_phase_that_comes_again_goes_on_counting() -> None:
    stop = Stop(never)
    for _ in range(2):
        stop.phase("execution")
        time.sleep(0.02)
        stop.phase("wait")
    timings = stop.timings
    assert list(timings) == ["execution_ms", "wait_ms", "total_ms"]
    assert 40 <= timings["execution_ms"] <= timings["total_ms"] < 1000


def test_a_job_that_is_both_cancelled_and_late_is_cancelled() -> None:
    stop = Stop(lambda: True)
    stop.limit(-1)
    with pytest.raises(JobCancelled):
        stop.check()


def test_waiting_ends_when_it_is_time_to_stop() -> None:
    done = threading.Event()
    stop = Stop(done.is_set)
    stop.wait(0.01)
    threading.Timer(0.1, done.set).start()
    started = time.monotonic()
    with pytest.raises(JobCancelled):
        stop.wait(60)
    assert time.monotonic() - started < 8


def late() -> InputUnavailable:
    return InputUnavailable("the part took too long")


def test_a_part_of_a_job_has_a_deadline_of_its_own() -> None:
    stop = Stop(never)
    part = stop.within(0.05, late)
    part.check()
    time.sleep(0.06)
    with pytest.raises(InputUnavailable, match="the part took too long"):
        part.check()
    stop.check()


def test_a_part_of_a_job_stops_with_the_job() -> None:
    cancelled = [False]
    stop = Stop(lambda: cancelled[0])
    part = stop.within(60, late)
    stop.limit(0)
    assert part.is_due()
    with pytest.raises(TimedOut):
        part.check()
    cancelled[0] = True
    with pytest.raises(JobCancelled):
        part.check()


def test_a_part_of_a_job_can_be_given_up_alone() -> None:
    given_up = [False]
    stop = Stop(never)
    part = stop.unless(lambda: given_up[0]).within(60, late)
    part.check()
    given_up[0] = True
    assert part.is_due()
    with pytest.raises(JobCancelled):
        part.check()
    stop.check()


def test_a_cancelled_job_is_no_error_of_a_job() -> None:
    # It has no code and no result: nobody waits for one.
    assert JobCancelled.__mro__[1] is Exception
