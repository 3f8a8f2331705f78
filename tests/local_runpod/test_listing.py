from __future__ import annotations

from typing import Any

import pytest

from local_runpod.jobs.job import Job
from local_runpod.jobs.listing import summary


@pytest.fixture
def job() -> Job:
    """A job that runs."""
    fields = {"sync": False, "size": 1, "execution_timeout": 60, "ttl": 60}
    job = Job(id="j", request={"input": {"secret": 1}}, queued_at=1.0, **fields)  # type: ignore[arg-type]
    job.start("w1", 3.0)
    return job


def test_a_running_job_tells_how_far_it_is_without_its_preview(job: Job) -> None:
    job.progress({"percent": 45, "node": "N" * 999, "node_id": "3", "preview": {"data": "x"}})
    entry = summary(job, 7)
    assert entry.pop("progress") == {"percent": 45, "node": "N" * 300 + "…", "node_id": "3"}
    assert entry == {
        "id": "j",
        "status": "IN_PROGRESS",
        "delayTime": 2000,
        "workerId": "w1",
        "queuedAt": 7,
    }


@pytest.mark.parametrize("odd", [None, 7, "text", [], {"percent": [], "node": {}}])
def test_progress_of_any_form_is_tolerated(job: Job, odd: Any) -> None:
    job.progress(odd)
    assert not summary(job, 7).get("progress")


def test_a_finished_job_tells_how_many_outputs_there_are(job: Job) -> None:
    job.finish({"images": [{"data": "x"}] * 2, "texts": [{}], "videos": "odd"}, None, 5.0)
    entry = summary(job, 7)
    assert (entry["outputs"], entry["isDryRun"]) == ({"images": 2, "texts": 1}, False)
    assert "output" not in entry


def test_a_film_that_stands_in_two_lists_is_counted_once(job: Job) -> None:
    film = {"filename": "a.mp4", "media_type": "video/mp4"}
    job.finish({"images": [film], "videos": [{**film, "same_as": "images[0]"}]}, None, 5.0)
    assert summary(job, 7)["outputs"] == {"videos": 1}


@pytest.mark.parametrize(
    "output", [{"status": "dry_run", "inputs": []}, {"workflows": {"action": "list", "names": []}}]
)
def test_what_only_asks_is_told_as_such(job: Job, output: Any) -> None:
    job.finish(output, None, 5.0)
    assert summary(job, 7)["isDryRun"] is True


def test_long_errors_are_cut(job: Job) -> None:
    job.finish({"details": []}, "E" * 5000, 5.0)
    assert summary(job, 7)["error"] == "E" * 300 + "…"
