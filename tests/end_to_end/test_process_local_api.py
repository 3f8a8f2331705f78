from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.support.handler import Handler, handler_environment, running_handler
from tests.support.workflows import color_of, node, saved_image
from worker_comfyui.comfyui.process.port import free_port


@contextmanager
def serving(
    tmp_path: Path, arguments: Sequence[str], port: int, **variables: str
) -> Iterator[Handler]:
    """Run the SDK's own local API, and wait until it answers."""
    environment = handler_environment(tmp_path, **variables)
    with running_handler(tmp_path, environment, arguments=arguments) as handler:
        handler.wait_until(lambda: answers(port))
        yield handler


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["--rp_serve_api"], {}),
        ([], {"SERVE_API_LOCALLY": "true"}),
        (["--rp_api_host", "127.0.0.1"], {"SERVE_API_LOCALLY": "true"}),
    ],
)
def test_the_sdks_local_api_runs_jobs(
    arguments: list[str], variables: dict[str, str], tmp_path: Path
) -> None:
    port = free_port()
    arguments = [*arguments, "--rp_api_port", str(port)]
    with serving(tmp_path, arguments, port, **variables) as handler:
        url = f"http://127.0.0.1:{port}/runsync"
        body = {"input": {"workflow": saved_image(0xFF0000)}}
        job = requests.post(url, json=body, timeout=30).json()
        assert job["status"] == "COMPLETED"
        assert color_of(job["output"]["images"][0]) == (255, 0, 0)

        failing = {"input": {"workflow": {"1": node("TestFail", message="on purpose")}}}
        job = requests.post(url, json=failing, timeout=30).json()
        assert job["status"] == "FAILED"
        assert job["error"].startswith("EXECUTION_FAILED: ")

        comfyui = handler.comfyui_pids()
        sent = time.monotonic()
        handler.process.terminate()
        assert handler.wait(10) == 0
        assert time.monotonic() - sent < 5
        assert not any(Path(f"/proc/{pid}").exists() for pid in comfyui)


def test_a_host_on_the_command_line_goes_before_the_default(tmp_path: Path) -> None:
    port = free_port()
    arguments = ["--rp_api_port", str(port), "--rp_api_host", "127.0.0.1"]
    with serving(tmp_path, arguments, port, SERVE_API_LOCALLY="true"):
        tables = Path("/proc/net/tcp").read_text().splitlines()[1:]
        listening = [line.split()[1] for line in tables if line.split()[3] == "0A"]
        assert f"0100007F:{port:04X}" in listening
        assert f"00000000:{port:04X}" not in listening


@pytest.mark.parametrize(("color", "code"), [("0xFF0000", 0), ("not a number", 1)])
def test_without_a_platform_one_request_is_run_and_the_exit_code_tells(
    color: str, code: int, tmp_path: Path
) -> None:
    workflow = saved_image()
    workflow["1"]["inputs"]["color"] = int(color, 16) if code == 0 else color
    request = json.dumps({"input": {"workflow": workflow}})
    environment = handler_environment(tmp_path)
    with running_handler(tmp_path, environment, arguments=["--test_input", request]) as handler:
        assert handler.wait() == code
        events = handler.events()
        assert ("job_done" if code == 0 else "job_failed") in events
        assert handler.comfyui_pids() == []
