from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.support.platform import RunningPlatform, running_platform

STUB = [sys.executable, str(Path(__file__).with_name("stub_worker.py"))]

StartPlatform = Callable[..., AbstractContextManager[RunningPlatform]]


@pytest.fixture(scope="session")
def start() -> StartPlatform:
    """Starts a platform with stub workers."""

    def start_with_stub(**options: Any) -> AbstractContextManager[RunningPlatform]:
        return running_platform(STUB, **options)

    return start_with_stub


@pytest.fixture(scope="module")
def platform(start: StartPlatform) -> Iterator[RunningPlatform]:
    """A platform with two stub workers, shared by the module's tests."""
    with start(workers=2) as running:
        yield running


@pytest.fixture
def gateway() -> Iterator[RunningPlatform]:
    """A platform without workers: jobs stay in the queue."""
    with running_platform() as running:
        yield running
