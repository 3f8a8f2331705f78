"""Several workers and many clients at once: every result must be its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.end_to_end.conftest import StartPlatform
from tests.end_to_end.workflows import colour_of, request, solid_colour
from tests.support.platform import RunningPlatform

JOBS = 100
CLIENTS = 8


def test_a_hundred_jobs_of_eight_clients_each_get_their_own_picture(start: StartPlatform) -> None:
    colours = [0x010203 * (n + 1) % 0xFFFFFF for n in range(JOBS)]
    assert len(set(colours)) == JOBS
    with start(workers=2, env={"WORKER_CONCURRENCY": "3"}) as platform:
        with ThreadPoolExecutor(CLIENTS) as clients:
            jobs = list(clients.map(lambda colour: run(platform, colour), colours))
        health = platform.health()
    assert [colour_of(job) for job in jobs] == colours
    assert len({job["id"] for job in jobs}) == JOBS
    assert len({job["workerId"] for job in jobs}) == 2
    assert health["jobs"] == {
        "completed": JOBS,
        "failed": 0,
        "inProgress": 0,
        "inQueue": 0,
        "retried": 0,
    }


def run(platform: RunningPlatform, colour: int) -> dict[str, object]:
    """One client's job; every other one waits for its result by asking for the status."""
    if colour % 2:
        return platform.run_sync(request(solid_colour(colour)))
    return platform.wait(platform.run(request(solid_colour(colour))), 110)
