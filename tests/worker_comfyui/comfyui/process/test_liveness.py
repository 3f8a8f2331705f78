from __future__ import annotations

from collections.abc import Iterable

from worker_comfyui.comfyui.process.liveness import BUSY_FACTOR, Liveness, Look
from worker_comfyui.comfyui.process.vital_signs import Activity

LIMIT_S = 10.0


def frozen_at(looks: Iterable[Look]) -> float | None:
    """When it is given up, in seconds from the first look."""
    liveness = Liveness(LIMIT_S)
    return next((look.at_s for look in looks if liveness.frozen_after(look) is not None), None)


def silent(*, cores: float = 0.0, disk: bool = False, start: int = 0) -> Iterable[Look]:
    """Looks without an answer, one a second, while so much of a processor is used."""
    return [
        Look(float(at), answered=False, activity=Activity(at * cores, disk))
        for at in range(start, 500)
    ]


def test_one_that_answers_is_alive() -> None:
    assert frozen_at(Look(float(at), answered=True) for at in range(500)) is None


def test_one_that_neither_answers_nor_works_is_frozen_after_the_limit() -> None:
    assert frozen_at(silent()) == LIMIT_S + 1


def test_one_that_works_is_only_busy_for_a_long_time() -> None:
    assert frozen_at(silent(cores=1.0)) == LIMIT_S * BUSY_FACTOR + 1
    assert frozen_at(silent(disk=True)) == LIMIT_S * BUSY_FACTOR + 1


def test_one_that_would_work_if_the_machine_had_time_for_it_is_busy_too() -> None:
    looks = [
        Look(float(at), answered=False, activity=Activity(at * 0.03, False, queued_s=at * 0.9))
        for at in range(500)
    ]
    assert frozen_at(looks) == LIMIT_S * BUSY_FACTOR + 1


def test_a_little_work_of_a_background_thread_is_no_life() -> None:
    assert frozen_at(silent(cores=0.01)) == LIMIT_S + 1


def test_the_limit_counts_from_its_last_work() -> None:
    busy = [Look(float(at), answered=False, activity=Activity(at, False)) for at in range(30)]
    idle = [Look(float(at), answered=False, activity=Activity(29, False)) for at in range(30, 99)]
    assert frozen_at([*busy, *idle]) == 29 + LIMIT_S + 1


def test_an_answer_ends_the_silence() -> None:
    looks = [*silent()][:9]
    looks += [Look(9.0, answered=True), *silent(start=10)]
    assert frozen_at(looks) == 10 + LIMIT_S + 1


def test_where_nothing_is_known_of_its_work_only_answers_count() -> None:
    assert frozen_at(Look(float(at), answered=False) for at in range(500)) == LIMIT_S + 1


def test_a_pause_between_two_answers_is_no_silence() -> None:
    # The platform freezes the whole worker, and thaws it an hour later.
    looks = [Look(0.0, answered=True), Look(3600.0, answered=False), Look(3601.0, answered=True)]
    assert frozen_at(looks) is None


def test_the_seconds_of_silence_are_told() -> None:
    liveness = Liveness(LIMIT_S)
    told = [liveness.frozen_after(look) for look in silent()][: int(LIMIT_S) + 2]
    assert told == [None] * (int(LIMIT_S) + 1) + [LIMIT_S + 1]
