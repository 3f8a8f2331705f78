from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
import requests

from tests.local_comfyui.workflows import Prompt, image_prompt, node, wait_until_running
from tests.support.comfyui import LOCAL_COMFYUI, ComfyUI, NotReadyError, free_port, running_comfyui
from tests.support.waiting import wait_until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_at_once_even_while_a_node_hangs(
    number: int, tmp_path: Path
) -> None:
    with running_comfyui(tmp_path, always_local=True) as server:
        server.run({"1": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
                    "2": node("PreviewImage", images=["1", 0])})  # fmt: skip
        assert list((tmp_path / "temp").iterdir())
        wait_until_running(server, server.submit({"1": node("TestHang", seconds=60.0)}))
        connection = socket.create_connection((server.host, server.port))
        began = time.monotonic()

        status = server.stop(number)

        connection.close()
        assert status == 0
        assert time.monotonic() - began < 8
        assert not (tmp_path / "temp").exists()


def test_the_temp_folder_is_emptied_at_the_start(tmp_path: Path) -> None:
    leftover = tmp_path / "elsewhere" / "temp" / "old.png"
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    flags = ["--temp-directory", str(tmp_path / "elsewhere")]

    with running_comfyui(tmp_path, flags=flags, always_local=True):
        assert not leftover.exists()


def test_folders_can_be_named_one_by_one(tmp_path: Path) -> None:
    flags = ["--output-directory", str(tmp_path / "results")]

    with running_comfyui(tmp_path, flags=flags, always_local=True) as server:
        server.run(image_prompt())

    assert (tmp_path / "results" / "x_00001_.png").is_file()


def test_history_is_gone_after_a_restart_and_counters_go_on(tmp_path: Path) -> None:
    names = []
    for _ in range(2):
        with running_comfyui(tmp_path, always_local=True) as server:
            assert server.get("/history").json() == {}
            file = server.run(image_prompt())["outputs"]["2"]["images"][0]
            names.append(file["filename"])

    assert names == ["x_00001_.png", "x_00002_.png"]


def submit_deadly(server: ComfyUI, prompt: Prompt) -> None:
    """Queue a prompt that may end the server before it has answered."""
    with contextlib.suppress(requests.ConnectionError):
        server.submit(prompt)


@pytest.mark.parametrize(("code", "expected"), [(3, 3), (0, 0)])
def test_a_node_can_end_the_server(code: int, expected: int, tmp_path: Path) -> None:
    with running_comfyui(tmp_path, always_local=True) as server:
        submit_deadly(server, {"1": node("TestExit", code=code)})

        assert server.process.wait(5) == expected


def test_a_freezing_node_stops_the_whole_server(tmp_path: Path) -> None:
    prompt = {"1": node("TestFreeze", times=1, counter=str(tmp_path / "counter"))}
    with running_comfyui(tmp_path, always_local=True) as server:
        prompt_id = str(uuid.uuid4())
        request = threading.Thread(
            target=server.submit, args=(prompt,), kwargs={"prompt_id": prompt_id}
        )
        request.start()
        stat = Path(f"/proc/{server.process.pid}/stat")
        wait_until(lambda: stat.read_text().split(") ")[1][0] == "T")
        server.process.send_signal(signal.SIGCONT)
        request.join()

        assert server.wait(prompt_id)["outputs"]["1"]["text"] == ["alive"]


def test_a_busy_port_ends_the_start(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port: int = listener.getsockname()[1]

        with (
            pytest.raises(NotReadyError, match="Cannot listen on"),
            running_comfyui(tmp_path, port=port, always_local=True),
        ):
            pass


def start(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(LOCAL_COMFYUI / "main.py"), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_an_unknown_flag_ends_the_start_with_status_2() -> None:
    result = start("--no-such-flag")

    assert result.returncode == 2
    assert "--no-such-flag" in result.stderr


def test_cache_flags_exclude_each_other() -> None:
    assert start("--cache-none", "--cache-lru", "3").returncode == 2


def test_metadata_can_be_left_out(tmp_path: Path) -> None:
    with running_comfyui(tmp_path, flags=["--disable-metadata"], always_local=True) as server:
        server.run(image_prompt())

    assert b"tEXt" not in (tmp_path / "output" / "x_00001_.png").read_bytes()


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
        "    RETURN_TYPES = ()\n"
        "    FUNCTION = 'run'\n"
        "    @classmethod\n"
        "    def INPUT_TYPES(cls):\n"
        "        return {'required': {}}\n"
        "NODE_CLASS_MAPPINGS = {'Nothing': Nothing}\n"
    )
    with running_comfyui(tmp_path / "base", [broken], always_local=True) as server:
        info = server.get("/object_info/Nothing").json()

        assert info["Nothing"]["python_module"] == "custom_nodes.packaged"
        assert "RuntimeError: does not load" in server.log()


def test_extra_nodes_can_be_switched_off(tmp_path: Path) -> None:
    flags = ["--disable-all-custom-nodes"]
    with running_comfyui(tmp_path, flags=flags, always_local=True) as server:
        assert server.get("/object_info/TestHang").json() == {}


def test_all_flags_of_a_headless_worker_are_taken(tmp_path: Path) -> None:
    port = free_port()
    flags = [
        *("--quick-test-for-ci", "--cpu", "--disable-auto-launch", "--dont-print-server"),
        *("--preview-method", "none", "--fast", "--reserve-vram", "1", "--verbose", "DEBUG"),
        *("--disable-smart-memory", "--lowvram", "--disable-api-nodes", "--enable-manager"),
        *("--disable-pinned-memory", "--async-offload"),
    ]

    result = start("--port", str(port), "--base-directory", str(tmp_path), *flags)

    assert result.returncode == 0, result.stderr
