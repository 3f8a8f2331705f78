from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.support.comfyui import FAULT_NODES, prepare_base
from tests.support.described import Notes, noted
from tests.support.platform import ROOT, RunningPlatform, running_platform
from tests.support.worker import worker_environment

StartPlatform = Callable[..., AbstractContextManager[RunningPlatform]]


def comfyui_of_its_own(folder: Path) -> Mapping[str, str]:
    """A ComfyUI for each worker, with the nodes for tests."""
    base = folder / "base"
    prepare_base(base, (FAULT_NODES,))
    return worker_environment(base)


@pytest.fixture(scope="module", autouse=True)
def notes() -> Iterator[Notes]:
    """Hears everything that is said to and by the module's platforms.

    Not longer: other tests that run in this process have platforms whose workers are stubs.
    """
    with noted() as heard:
        yield heard


@pytest.fixture(autouse=True)
def _as_described(notes: Notes) -> Iterator[None]:
    """What is sent, answered and made is as docs/openapi.json says, in every test."""
    yield
    notes.check()


@pytest.fixture(scope="session")
def start() -> StartPlatform:
    """Starts a platform whose workers are the real `handler.py`."""

    def start_with_handler(**options: Any) -> AbstractContextManager[RunningPlatform]:
        return running_platform(
            [sys.executable, "handler.py"], folder=ROOT, worker_env=comfyui_of_its_own, **options
        )

    return start_with_handler


@pytest.fixture(scope="module")
def platform(start: StartPlatform) -> Iterator[RunningPlatform]:
    """A platform with one worker, shared by the module's tests."""
    with start() as running:
        yield running
