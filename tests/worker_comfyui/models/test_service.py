from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import safetensors
from worker_comfyui.config import Settings
from worker_comfyui.errors import ConfigurationError
from worker_comfyui.models.reach import connect_public
from worker_comfyui.models.service import Models
from worker_comfyui.models.transfer.errors import Refused

ROOT = Path(__file__).parents[3]


def test_the_worker_s_start_imports_nothing_of_models() -> None:
    program = (
        "import sys, handler, worker_comfyui.comfyui.process.supervisor; "
        "print([name for name in sys.modules if name.startswith('worker_comfyui.models')])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "[]\n"


def test_a_wrong_catalogue_is_noticed_when_the_worker_starts() -> None:
    with pytest.raises(ConfigurationError, match="MODEL_CATALOG"):
        Models(Settings(model_catalog='[{"folder": "loras"}]'))


def test_the_models_of_the_settings_and_of_the_warm_up_are_read_early(tmp_path: Path) -> None:
    own = tmp_path / "comfyui" / "models"
    for place, size in (("vae/v.safetensors", 1000), ("checkpoints/c.safetensors", 5000)):
        (own / place).parent.mkdir(parents=True)
        (own / place).write_bytes(safetensors(size))
    nodes: dict[str, Any] = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "c.safetensors"}}
    }
    models = Models(Settings(preload_models=("vae/v.safetensors",)), own_models=own)
    preload = models.preload(nodes)
    assert preload
    assert preload.join(20)
    assert preload.read_bytes in {6000, 0}  # none where this machine is short of memory
    assert Models(Settings()).preload() is None


def test_closing_it_ends_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "comfyui" / "models" / "checkpoints" / "large.safetensors"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(2 << 30)  # it has no blocks, but is read like any other
    models = Models(Settings(preload_models=("large.safetensors",)), own_models=path.parent.parent)
    assert models.preload()
    models.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "preload"]


def test_an_address_is_checked_where_it_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    # A name that is public when it is asked first, and this machine when it is asked again.
    answers = ["203.0.114.1", "127.0.0.1"]
    reached: list[object] = []

    def look_up(host: str, port: int, *_: object, **__: object) -> list[Any]:
        address = answers.pop(0) if host == "rebinding.test" else host
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def connect(address: object, *_: object, **__: object) -> socket.socket:
        reached.append(address)
        raise OSError("nobody is there")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(OSError, match="nobody is there"):
        connect_public("rebinding.test", 443, 1)
    assert reached == [("203.0.114.1", 443)]
    with pytest.raises(Refused, match="has an address that is not public"):
        connect_public("rebinding.test", 443, 1)
    assert len(reached) == 1
