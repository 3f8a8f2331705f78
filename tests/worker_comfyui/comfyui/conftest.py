from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.comfyui import ComfyUI, running_comfyui
from worker_comfyui.comfyui.client import ComfyClient


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """A server for all tests that leave nothing behind in it."""
    with running_comfyui(tmp_path_factory.mktemp("comfyui")) as server:
        yield server


@pytest.fixture
def client(comfyui: ComfyUI) -> Iterator[ComfyClient]:
    with ComfyClient(comfyui.address) as client:
        yield client
