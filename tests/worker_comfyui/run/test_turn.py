from __future__ import annotations

import threading
import time

import pytest

from tests.support.waiting import wait_until
from worker_comfyui.errors import TimedOut
from worker_comfyui.run import turn
from worker_comfyui.run.turn import Turns
from worker_comfyui.stop import JobCancelled, Stop

NEVER = Stop(lambda: False)


def waiting(turns: Turns, stop: Stop, done: list[str], name: str) -> threading.Thread:
    """Start a thread that waits for its turn, and is in the queue when this returns."""

    def run() -> None:
        try:
            with turns.turn(stop):
                done.append(name)
        except (JobCancelled, TimedOut) as error:
            done.append(f"{name} {type(error).__name__}")

    length = len(turns._queue)
    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: len(turns._queue) > length)
    return thread


def test_turns_come_in_the_order_of_asking() -> None:
    turns, done = Turns(), list[str]()
    with turns.turn(NEVER):
        threads = [waiting(turns, NEVER, done, str(number)) for number in range(5)]
        assert done == []
    for thread in threads:
        thread.join(10)
    assert done == ["0", "1", "2", "3", "4"]


def test_only_one_has_the_turn() -> None:
    turns = Turns()
    inside = [0]
    most = [0]

    def run() -> None:
        for _ in range(20):
            with turns.turn(NEVER):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                inside[0] -= 1

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == [1]


def test_a_job_cancelled_while_it_waits_gives_up_its_place() -> None:
    turns, done = Turns(), list[str]()
    cancelled = threading.Event()
    with turns.turn(NEVER):
        first = waiting(turns, Stop(cancelled.is_set), done, "first")
        second = waiting(turns, NEVER, done, "second")
        cancelled.set()
        first.join(10)
        assert done == ["first JobCancelled"]
    second.join(10)
    assert done == ["first JobCancelled", "second"]


def test_a_deadline_counts_while_waiting_too() -> None:
    turns, done = Turns(), list[str]()
    stop = Stop(lambda: False)
    stop.limit(0.05)
    with turns.turn(NEVER):
        waiting(turns, stop, done, "late").join(10)
    assert done == ["late TimedOut"]


def test_a_job_that_fails_passes_the_turn_on() -> None:
    turns = Turns()
    with pytest.raises(RuntimeError), turns.turn(NEVER):
        raise RuntimeError
    with turns.turn(NEVER):
        pass


def test_the_next_one_starts_at_once() -> None:
    turns, done = Turns(), list[str]()
    with turns.turn(NEVER):
        thread = waiting(turns, NEVER, done, "next")
    started = time.monotonic()
    thread.join(10)
    assert time.monotonic() - started < 8
    assert done == ["next"]


def test_who_leaves_lets_the_next_one_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "HANDOVER_S", 0.5)
    turns, done = Turns(), list[str]()
    with turns.turn(NEVER):
        thread = waiting(turns, NEVER, done, "next")
    assert done == ["next"]
    thread.join(10)


def test_a_turn_that_ends_early_is_the_next_one_s() -> None:
    turns, done = Turns(), list[str]()
    with turns.turn(NEVER) as turn:
        thread = waiting(turns, NEVER, done, "next")
        turn.ends.callback(done.append, "what it left")
        turn.end()
        thread.join(10)
        assert done == ["what it left", "next"]
        turn.end()
    assert done == ["what it left", "next"]
    with turns.turn(NEVER):
        pass


def test_what_fails_at_the_end_of_a_turn_does_not_keep_it() -> None:
    turns = Turns()

    def fail() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError), turns.turn(NEVER) as turn:
        turn.ends.callback(fail)
    with turns.turn(NEVER):
        pass
