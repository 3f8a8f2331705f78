from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.comfyui import FAULT_NODES, ComfyUI, running_comfyui

NODES = (FAULT_NODES, FAULT_NODES.with_name("probe_nodes.py"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """A server with the tests' extra nodes; a real ComfyUI where one is given."""
    with running_comfyui(tmp_path_factory.mktemp("server"), NODES) as comfyui:
        yield comfyui


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """The same, never a real ComfyUI."""
    with running_comfyui(tmp_path_factory.mktemp("server"), NODES, always_local=True) as comfyui:
        yield comfyui
