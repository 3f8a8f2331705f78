from __future__ import annotations

from worker_comfyui.comfyui.process.restarts import MAX_BACK_OFF_S, Restarts


def test_the_first_restart_is_at_once_and_later_ones_wait_longer_and_longer() -> None:
    restarts = Restarts(100)
    pauses = [restarts.next_pause_s() for _ in range(8)]
    assert pauses == [0, 1, 3, 7, 15, MAX_BACK_OFF_S, MAX_BACK_OFF_S, MAX_BACK_OFF_S]


def test_they_are_used_up_at_the_limit() -> None:
    restarts = Restarts(2)
    used_up = []
    for _ in range(3):
        used_up.append(restarts.are_used_up)
        restarts.next_pause_s()
    assert used_up == [False, False, True]


def test_a_workflow_that_ended_makes_up_for_them() -> None:
    restarts = Restarts(1)
    restarts.next_pause_s()
    restarts.forget()
    assert not restarts.are_used_up
    assert restarts.next_pause_s() == 0


def test_none_may_be_allowed() -> None:
    assert Restarts(0).are_used_up
