from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_comfyui.nodes import NODES
from tests.support.comfyui import FAULT_NODES, ROOT, ComfyUI, running_comfyui

RECORDED = json.loads((ROOT / "test_resources/comfyui/object_info.json").read_text())

NOT_RECORDED = ("tooltip", "description", "output_tooltips")

CHOSEN_AT_RUN_TIME = {("LoadImage", "image"), ("LoadImageMask", "image")}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    base: Path = tmp_path_factory.mktemp("object_info")
    with running_comfyui(base, [FAULT_NODES], always_local=True) as comfyui:
        yield comfyui


def test_every_core_node_is_described_as_in_the_real_comfyui(server: ComfyUI) -> None:
    live = server.get("/object_info").json()
    core = {name: info for name, info in live.items() if name in RECORDED}

    assert set(core) | {"SaveImageWebsocket"} == set(NODES)
    for name, info in core.items():
        assert without_options(name, info) == without_options(name, RECORDED[name])


def test_nodes_that_the_real_comfyui_does_not_have_come_from_extra_files(server: ComfyUI) -> None:
    live = server.get("/object_info").json()
    modules = {info["python_module"] for name, info in live.items() if name not in RECORDED}

    # Real ComfyUI has the second one as a node file too: it comes with it.
    assert modules == {"custom_nodes.fault_nodes", "custom_nodes.websocket_image_save"}
    assert live["TestHang"]["output_node"] is True


def without_options(name: str, info: Any) -> Any:
    """A description without what depends on the files of the machine, or is not recorded."""
    reduced = _reduced(info)
    for section in reduced["input"].values():
        for input_name, config in section.items():
            if (name, input_name) in CHOSEN_AT_RUN_TIME:
                config[0] = ["<files>"]
    return reduced


def _reduced(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reduced(entry) for key, entry in value.items() if key not in NOT_RECORDED}
    if isinstance(value, list):
        return [_reduced(entry) for entry in value]
    return value
