from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.local_comfyui.workflows import image_prompt, node, wait_until_running
from tests.support.comfyui import LOCAL_COMFYUI, NotReadyError, running_comfyui


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_at_once_even_while_a_node_hangs(
    number: int, tmp_path: Path
) -> None:
    with running_comfyui(tmp_path, always_local=True) as server:
        server.run({**image_prompt(), "2": node("PreviewImage", images=["1", 0])})
        assert list((tmp_path / "temp").iterdir())
        wait_until_running(server, server.submit({"1": node("TestHang", seconds=60.0)}))
        with socket.create_connection((server.host, server.port)):
            began = time.monotonic()

            assert server.stop(number) == 0
        assert time.monotonic() - began < 8
        assert not (tmp_path / "temp").exists()


def test_flags_name_folders_and_switch_off_metadata_and_extra_nodes(tmp_path: Path) -> None:
    leftover = tmp_path / "elsewhere" / "temp" / "old.png"
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    flags = [
        *("--temp-directory", str(tmp_path / "elsewhere")),
        *("--output-directory", str(tmp_path / "results")),
        *("--disable-metadata", "--disable-all-custom-nodes"),
    ]
    with running_comfyui(tmp_path / "base", flags=flags, always_local=True) as server:
        assert not leftover.exists()
        assert server.get("/object_info/TestHang").json() == {}
        server.run(image_prompt())

    assert b"tEXt" not in (tmp_path / "results" / "x_00001_.png").read_bytes()


def test_history_is_gone_after_a_restart_and_counters_go_on(tmp_path: Path) -> None:
    names = []
    for _ in range(2):
        with running_comfyui(tmp_path, always_local=True) as server:
            assert server.get("/history").json() == {}
            names.append(server.run(image_prompt())["outputs"]["2"]["images"][0]["filename"])

    assert names == ["x_00001_.png", "x_00002_.png"]


def test_a_busy_port_ends_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        busy = running_comfyui(tmp_path, port=listener.getsockname()[1], always_local=True)
        with pytest.raises(NotReadyError, match="Cannot listen on"), busy:
            pass


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (["--no-such-flag"], 2),
        (["--cache-none", "--cache-lru", "3"], 2),  # they exclude each other
        (
            [
                *("--quick-test-for-ci", "--cpu", "--disable-auto-launch", "--dont-print-server"),
                *("--preview-method", "none", "--fast", "--reserve-vram", "1", "--verbose"),
                *("DEBUG", "--disable-smart-memory", "--lowvram", "--disable-api-nodes"),
                *("--enable-manager", "--disable-pinned-memory", "--async-offload"),
            ],
            0,
        ),
    ],
)
def test_flags_of_a_headless_worker_are_taken_and_others_end_the_start(
    flags: list[str], status: int, tmp_path: Path
) -> None:
    main = str(LOCAL_COMFYUI / "main.py")
    command = [sys.executable, main, "--base-directory", str(tmp_path), *flags]
    result = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)

    assert result.returncode == status, result.stderr


@pytest.mark.parametrize(("flags", "files"), [([], 2), (["--cache-lru", "9"], 1)])
def test_only_some_policies_remember_the_prompt_before_the_last(
    flags: list[str], files: int, tmp_path: Path
) -> None:
    with running_comfyui(tmp_path, flags=flags, always_local=True) as server:
        for color in (1, 2, 1):
            server.run(image_prompt(color, f"c{color}"))

    assert len(list((tmp_path / "output").glob("c1_*.png"))) == files


def test_broken_node_files_are_logged_and_the_others_load(tmp_path: Path) -> None:
    broken = tmp_path / "broken_nodes.py"
    broken.write_text("raise RuntimeError('does not load')\n")
    package = tmp_path / "base" / "custom_nodes" / "packaged"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .inner import NODE_CLASS_MAPPINGS\n")
    (package / "inner.py").write_text(
        "class Nothing:\n"
        "    RETURN_TYPES, FUNCTION = (), 'run'\n"
        "    INPUT_TYPES = classmethod(lambda cls: {'required': {}})\n"
        "NODE_CLASS_MAPPINGS = {'Nothing': Nothing}\n"
    )
    with running_comfyui(tmp_path / "base", [broken], always_local=True) as server:
        info = server.get("/object_info/Nothing").json()

        assert info["Nothing"]["python_module"] == "custom_nodes.packaged"
        assert "RuntimeError: does not load" in server.log()
