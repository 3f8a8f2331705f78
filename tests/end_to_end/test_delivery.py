"""Results in a bucket and at a webhook."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.end_to_end.conftest import StartPlatform
from tests.end_to_end.workflows import request, solid_colour
from tests.support.platform import RunningPlatform
from tests.support.receiver import receiving
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, serving_s3


@pytest.fixture(scope="module")
def platform(start: StartPlatform) -> Iterator[RunningPlatform]:
    """A platform whose worker may use a bucket on this machine."""
    with start(env={"ALLOW_PRIVATE_INPUT_URLS": "true"}) as running:
        yield running


def test_a_request_with_a_bucket_of_its_own_gets_addresses_that_work(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    with serving_s3(tmp_path) as s3:
        s3.make_bucket("pictures")
        bucket = {
            "endpointUrl": s3.url,
            "bucketName": "pictures",
            "accessId": ACCESS_KEY,
            "accessSecret": SECRET_KEY,
        }
        job = platform.run_sync(request(solid_colour(0xFF0000)), s3Config=bucket)
        assert job["status"] == "COMPLETED", job
        (image,) = job["output"]["images"]
        assert image["type"] == "s3_url"
        content = requests.get(image["data"], timeout=10).content
        assert content.startswith(b"\x89PNG")
        assert len(content) == image["bytes"]
    assert SECRET_KEY not in platform.log()
    assert SECRET_KEY not in str(job)


def test_a_webhook_gets_what_status_shows(platform: RunningPlatform) -> None:
    job_input = request(solid_colour(0x00FF00))
    with receiving(200) as receiver:
        job_id = platform.run(job_input, webhook=receiver.url)
        (call,) = receiver.wait(1, 30)
    assert call["status"] == "COMPLETED"
    assert call == {**platform.status(job_id), "input": job_input, "webhook": receiver.url}
