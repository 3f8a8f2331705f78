from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.worker import WorkerUnderTest, running_worker


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerUnderTest]:
    """A worker as it is by default, for all tests of a file."""
    with running_worker(tmp_path_factory.mktemp("comfyui")) as running:
        yield running
