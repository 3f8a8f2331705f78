from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.comfyui import FAULT_NODES, ComfyUI, running_comfyui


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """A server with the tests' extra nodes."""
    nodes = [FAULT_NODES, FAULT_NODES.with_name("probe_nodes.py")]
    with running_comfyui(tmp_path_factory.mktemp("server"), nodes) as comfyui:
        yield comfyui
