from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.s3 import S3Server, serving_s3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    """A server with the bucket `results`."""
    with serving_s3(tmp_path / "s3") as running:
        running.make_bucket("results")
        yield running


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A file of 1 MiB."""
    path = tmp_path / "0.png"
    path.write_bytes(bytes(range(256)) * 4096)
    return path
