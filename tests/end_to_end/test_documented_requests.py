"""Every curl line of the README and the docs, as it stands there but for the address."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.end_to_end.conftest import StartPlatform
from tests.support.platform import ROOT, RunningPlatform
from tests.support.receiver import receiving
from tests.support.shell import BASH, run

LOCAL = "http://127.0.0.1:8000"
HOSTED = "https://api.runpod.ai"
WEBHOOK = "http://127.0.0.1:9000/"
WATCHED = "job=$(curl "
"""In the block whose lines belong together: a job, and how far it is."""

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")


def requests_in(document: Path) -> Iterator[str]:
    """The commands that send a request to an endpoint, each with all its lines."""
    for block in BASH.findall(document.read_text()):
        if WATCHED in block:
            continue
        for command in re.split(r"^ *(?=curl )", block, flags=re.MULTILINE):
            if command.startswith("curl ") and (LOCAL in command or HOSTED in command):
                yield command


DOCUMENTED = [
    pytest.param(command, id=f"{document.name}-{number}")
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for number, command in enumerate(requests_in(document), 1)
]
SHOWN = 8  # so that a change of how they are written does not hide them


@pytest.fixture(scope="module")
def platform(start: StartPlatform) -> Iterator[RunningPlatform]:
    """A platform with the stored workflows that every local one has."""
    with start() as running:
        yield running


def run_here(command: str, folder: Path) -> str:
    """Run a command of the documentation where its files are."""
    for name in ("test_input.json", "test_resources"):
        (folder / name).symlink_to(ROOT / name)
    return run(command, folder, RUNPOD_API_KEY="any")


def percents(platform: RunningPlatform, job_id: str) -> list[int]:
    """What somebody reads, in order, who asks again and again how far the job is."""
    seen = []
    while (job := platform.status(job_id))["status"] in {"IN_QUEUE", "IN_PROGRESS"}:
        seen.append(job.get("output", {}).get("percent", 0))
        time.sleep(0.2)
    return seen


def test_they_are_found() -> None:
    assert len(DOCUMENTED) >= SHOWN


@pytest.mark.parametrize("command", DOCUMENTED)
def test_a_documented_request_is_answered_with_a_job(
    command: str, platform: RunningPlatform, tmp_path: Path
) -> None:
    with receiving(200) as receiver:
        here = command.replace(LOCAL, platform.url).replace(HOSTED, platform.url)
        here = here.replace(WEBHOOK, receiver.url)
        printed = run_here(here, tmp_path)
        if "python3 -c" in command:
            with Image.open(tmp_path / "output" / "day_00001_.png") as picture:
                assert picture.size == (640, 400)
            return
        job = json.loads(printed)
        ended = job if job["id"].startswith("sync-") else platform.wait(job["id"])
        needs_a_model = "sdxl.json" in here
        assert ended["status"] == ("FAILED" if needs_a_model else "COMPLETED"), ended
        if WEBHOOK in command:
            (call,) = receiver.wait(1)
            assert call["id"] == job["id"]


def test_the_readme_s_longer_job_is_watched(platform: RunningPlatform, tmp_path: Path) -> None:
    (block,) = (b for b in BASH.findall((ROOT / "README.md").read_text()) if WATCHED in b)
    printed = run_here(block.replace(LOCAL, platform.url), tmp_path)
    assert len(printed) <= 301
    (job_id,) = re.findall(r'"id": "([^"]+)"', printed)
    seen = percents(platform, job_id)
    assert seen == sorted(seen)
    # How many there are follows from the machine's speed; one tells how far the job is.
    assert any(0 < percent < 100 for percent in seen), seen
    assert platform.status(job_id)["status"] == "COMPLETED"
