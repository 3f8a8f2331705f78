from __future__ import annotations

import json
from typing import Any

from local_comfyui.nodes import NODES
from tests.support.comfyui import ROOT, ComfyUI

RECORDED = json.loads((ROOT / "test_resources/comfyui/object_info.json").read_text())
NOT_RECORDED = ("tooltip", "description", "output_tooltips")
CHOSEN_AT_RUN_TIME = ("LoadImage", "LoadImageMask")


def test_every_node_is_described_as_in_the_real_comfyui_or_comes_from_an_extra_file(
    stand_in: ComfyUI,
) -> None:
    live = stand_in.get("/object_info").json()
    core = {name: info for name, info in live.items() if name in RECORDED}

    assert set(core) | {"SaveImageWebsocket"} == set(NODES)
    for name, info in core.items():
        assert without_files(name, info) == without_files(name, RECORDED[name])
    # Real ComfyUI has the last one as a node file too: it comes with it.
    extra = {info["python_module"] for name, info in live.items() if name not in RECORDED}
    files = ("fault_nodes", "probe_nodes", "websocket_image_save")
    assert extra == {f"custom_nodes.{file}" for file in files}
    assert live["TestHang"]["output_node"] is True


def without_files(name: str, info: Any) -> Any:
    """A description without what depends on the files of the machine, or is not recorded."""
    reduced = _reduced(info)
    if name in CHOSEN_AT_RUN_TIME:
        reduced["input"]["required"]["image"][0] = ["<files>"]
    return reduced


def _reduced(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reduced(entry) for key, entry in value.items() if key not in NOT_RECORDED}
    return [_reduced(entry) for entry in value] if isinstance(value, list) else value
