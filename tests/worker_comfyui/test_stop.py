from __future__ import annotations

import time

import pytest

from worker_comfyui.errors import TimedOut
from worker_comfyui.stop import JobCancelled, Stop


def test_a_job_goes_on_while_there_is_no_reason_to_stop() -> None:
    stop = Stop(lambda: False)
    stop.check()
    assert not stop.is_due()
    stop.start_clock(60)
    stop.check()
    assert not stop.is_due()


def test_a_cancelled_job_stops() -> None:
    cancelled = [False]
    stop = Stop(lambda: cancelled[0])
    stop.check()
    cancelled[0] = True
    assert stop.is_due()
    with pytest.raises(JobCancelled):
        stop.check()


def test_a_job_stops_at_its_deadline_which_the_error_names() -> None:
    stop = Stop(lambda: False)
    stop.start_clock(0.05)
    assert not stop.is_due()
    time.sleep(0.06)
    assert stop.is_due()
    with pytest.raises(TimedOut, match=r"TIMED_OUT: .*0\.05 s"):
        stop.check()


def test_a_job_that_is_both_cancelled_and_late_is_cancelled() -> None:
    stop = Stop(lambda: True)
    stop.start_clock(-1)
    with pytest.raises(JobCancelled):
        stop.check()


def test_the_clock_can_be_started_anew() -> None:
    stop = Stop(lambda: False)
    stop.start_clock(-1)
    stop.start_clock(60)
    stop.check()


def test_a_cancelled_job_is_no_error_of_a_job() -> None:
    # It has no code and no result: nobody waits for one.
    assert JobCancelled.__mro__[1] is Exception
