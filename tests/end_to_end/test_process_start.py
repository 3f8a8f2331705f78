from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.comfyui import FAULT_NODES, REAL_COMFYUI, running_comfyui
from tests.support.handler import (
    Handler,
    comfyui_folders,
    handler_environment,
    on_platform,
    running_endpoint,
    running_handler,
)
from tests.support.hub import safetensors
from tests.support.platform import ROOT, RunningPlatform, running_platform
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, serving_s3
from tests.support.workflows import node, saved_image
from worker_comfyui.models import memory
from worker_comfyui.models.preload import RESERVE_BYTES

FRAME = ROOT / "test_resources" / "workflows" / "editor" / "frame.json"

# Most of it is the import of the SDK, which is waited for before the failure is reported.
WITHIN_S = 90 if REAL_COMFYUI else 15

FAILING_MAIN = """
import sys
print("Total VRAM 0 MB", flush=True)
print("RuntimeError: Found no NVIDIA driver on your system.", flush=True)
sys.exit(1)
"""
FOREIGN_MAIN = """
import a_package_of_comfyui_s_own_environment
"""
SILENT_MAIN = """
import time
print("loading, for ever", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def platform() -> Iterator[RunningPlatform]:
    """A platform with a job in its queue that no worker should take."""
    with running_platform() as platform:
        platform.run({"workflow": saved_image()})
        yield platform


def failed_start(platform: RunningPlatform, base: Path, **variables: str) -> Handler:
    """Run a worker that must not start; return what is left of it."""
    environment = handler_environment(base, **on_platform(platform), **variables)
    with running_handler(base, environment) as handler:
        assert handler.wait(WITHIN_S) == 1
    assert handler.comfyui_pids() == []
    assert platform.health()["jobs"]["inQueue"] == 1
    assert platform.health()["workers"]["ready"] == 0
    return handler


def failure(handler: Handler) -> str:
    """The message of the one line that says why it did not start."""
    (line,) = [line for line in handler.lines() if line.get("event") == "start_failed"]
    assert line["error_code"] == "COMFYUI_START_FAILED"
    return str(line["message"])


def comfyui_that_runs(main: str, folder: Path) -> Path:
    folder.mkdir()
    (folder / "main.py").write_text(main)
    return folder


def test_a_comfyui_that_exits_at_once_ends_the_worker_with_its_log_and_a_hint(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    comfyui = comfyui_that_runs(FAILING_MAIN, tmp_path / "comfyui")
    message = failure(failed_start(platform, tmp_path / "base", COMFYUI_PATH=str(comfyui)))
    assert "ComfyUI exited with code 1" in message
    assert "No GPU is visible" in message
    assert message.index("Total VRAM 0 MB") < message.index("RuntimeError: Found no NVIDIA driver")


def test_a_flag_that_comfyui_does_not_know_ends_the_worker_with_a_hint(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    handler = failed_start(platform, tmp_path / "base", COMFYUI_ARGS="--no-such-flag")
    assert "does not know a flag in COMFYUI_ARGS" in failure(handler)
    assert "--no-such-flag" in failure(handler)


def test_a_comfyui_that_never_answers_ends_the_worker_when_its_time_is_up(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    comfyui = comfyui_that_runs(SILENT_MAIN, tmp_path / "comfyui")
    message = failure(
        failed_start(
            platform, tmp_path / "base", COMFYUI_PATH=str(comfyui), COMFY_START_TIMEOUT_S="1"
        )
    )
    assert re.search(r"was not ready after \d+ s, as COMFY_START_TIMEOUT_S demands", message)
    assert "loading, for ever" in message


def test_a_start_that_has_used_up_its_looks_names_the_variable(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    comfyui = comfyui_that_runs(SILENT_MAIN, tmp_path / "comfyui")
    handler = failed_start(
        platform,
        tmp_path / "base",
        COMFYUI_PATH=str(comfyui),
        COMFY_API_AVAILABLE_MAX_RETRIES="2",
    )
    assert "s, as COMFY_API_AVAILABLE_MAX_RETRIES demands" in failure(handler)


def test_an_address_where_no_comfyui_runs_ends_the_worker_when_its_time_is_up(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    handler = failed_start(
        platform, tmp_path / "base", COMFY_HOST="127.0.0.1:1", COMFY_START_TIMEOUT_S="1"
    )
    assert "127.0.0.1:1 (COMFY_HOST) was not ready after" in failure(handler)


def test_an_address_where_nobody_answers_is_named_in_the_log_within_seconds(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    environment = handler_environment(
        tmp_path / "base", **on_platform(platform), COMFY_HOST="127.0.0.1:1"
    )
    with running_handler(tmp_path / "base", environment) as handler:
        handler.wait_until(lambda: "127.0.0.1:1 (COMFY_HOST)" in handler.log(), 15)
    (line,) = [line for line in handler.lines() if "COMFY_HOST" in line["message"]]
    assert line["level"] == "WARNING"
    assert "Connection refused" in line["message"]
    assert "waiting for" in line["message"]


def test_a_stranger_on_the_port_is_not_taken_for_our_comfyui(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    with running_comfyui(tmp_path / "stranger") as stranger:
        flags = handler_environment(tmp_path / "base")["COMFYUI_ARGS"] + f" --port {stranger.port}"
        handler = failed_start(platform, tmp_path / "base", COMFYUI_ARGS=flags)
        assert stranger.get("/system_stats").status_code == 200
    assert "Another process has the port" in failure(handler)
    assert "comfyui_ready" not in handler.events()


@pytest.mark.parametrize(
    ("variable", "word"), [("COMFYUI_PATH", "COMFYUI_PATH"), ("COMFYUI_PYTHON", "COMFYUI_PYTHON")]
)
def test_a_missing_folder_or_interpreter_ends_the_worker_and_is_named(
    variable: str, word: str, platform: RunningPlatform, tmp_path: Path
) -> None:
    missing = tmp_path / "nowhere"
    handler = failed_start(platform, tmp_path / "base", **{variable: str(missing)})
    assert handler.log().startswith(f"CONFIGURATION_ERROR: {word} must be")
    assert str(missing) in handler.log()


def test_a_comfyui_in_the_wrong_python_ends_the_worker_and_names_the_variable(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    comfyui = comfyui_that_runs(FOREIGN_MAIN, tmp_path / "comfyui")
    message = failure(failed_start(platform, tmp_path / "base", COMFYUI_PATH=str(comfyui)))
    assert "No module named 'a_package_of_comfyui_s_own_environment'" in message
    assert "set COMFYUI_PYTHON to the Python that ComfyUI is installed in" in message


def test_wrong_settings_end_the_worker_before_anything_is_started(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    handler = failed_start(platform, tmp_path / "base", MAX_INPUT_MB="lots", LOG_LEVEL="loud")
    assert handler.log().startswith("CONFIGURATION_ERROR: ")
    assert "MAX_INPUT_MB" in handler.log()
    assert "LOG_LEVEL" in handler.log()
    assert "starting ComfyUI" not in handler.log()


def test_what_the_settings_name_is_checked_in_the_same_go(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    handler = failed_start(
        platform,
        tmp_path / "base",
        MAX_INPUT_MB="lots",
        COMFYUI_ARGS="--port",
        WARMUP_WORKFLOW=str(tmp_path / "missing.json"),
    )
    (line,) = handler.log().splitlines()
    assert line.startswith("CONFIGURATION_ERROR: ")
    for word in ("MAX_INPUT_MB", "COMFYUI_ARGS: argument --port", "WARMUP_WORKFLOW", "missing"):
        assert word in line


def test_a_custom_node_that_cannot_be_imported_is_logged_and_does_not_stop_the_worker(
    tmp_path: Path,
) -> None:
    broken = tmp_path / "broken_nodes.py"
    broken.write_text('raise ImportError("no module named left_pad")\n')
    with running_endpoint(tmp_path / "base", extra_nodes=(broken,)) as (platform, handler):
        assert platform.run_sync({"workflow": saved_image()})["status"] == "COMPLETED"
        assert "left_pad" in handler.log()


# --- the order of the start


def test_comfyui_is_spawned_before_any_large_package_is_imported(tmp_path: Path) -> None:
    with running_endpoint(tmp_path / "base", PYTHONPROFILEIMPORTTIME="1") as (_, handler):
        log = handler.log().splitlines()
    spawned = next(n for n, line in enumerate(log) if '"starting ComfyUI"' in line)
    # ComfyUI's own imports are in its log lines, which are JSON.
    imports = {
        line.rpartition("|")[2].strip(): n
        for n, line in enumerate(log)
        if line.startswith("import time:")
    }
    assert "PIL" not in imports  # only the decoder's process needs it
    for package in ("requests", "websocket", "aiohttp", "runpod"):
        assert imports[package] > spawned, f"{package} delays the start of ComfyUI"


def test_the_first_job_is_taken_only_when_comfyui_is_ready(tmp_path: Path) -> None:
    slow = tmp_path / "slow_nodes.py"
    slow.write_text("import time\ntime.sleep(3)\nNODE_CLASS_MAPPINGS = {}\n")
    with running_platform() as platform:
        job_id = platform.run({"workflow": saved_image()})
        base = tmp_path / "base"
        environment = handler_environment(base, **on_platform(platform))
        with running_handler(base, environment, extra_nodes=(slow,)) as handler:
            while "comfyui_ready" not in handler.events():
                assert platform.status(job_id)["status"] == "IN_QUEUE"
                assert time.monotonic() < handler.started_at + 40, handler.log()
                time.sleep(0.02)
            assert platform.wait(job_id)["status"] == "COMPLETED"


# --- warm-up


def test_the_warm_up_workflow_runs_before_the_first_job(tmp_path: Path) -> None:
    path = tmp_path / "warm-up.json"
    path.write_text(json.dumps(saved_image()))
    with running_endpoint(tmp_path / "base", WARMUP_WORKFLOW=str(path)) as (platform, handler):
        job = platform.run_sync({"workflow": saved_image(0xFF0000)})
        assert job["status"] == "COMPLETED"
        done = [line["job_id"] for line in handler.lines() if line.get("event") == "job_done"]
        assert done == ["warm-up", job["id"]]
        assert list(comfyui_folders(tmp_path / "base").output.rglob("*.png")) == []


def test_what_the_warm_up_makes_goes_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "warm-up.json"
    request = {"workflow": saved_image(), "output": {"delivery": "s3", "format": "webp"}}
    path.write_text(json.dumps({"input": request}))
    with serving_s3(tmp_path) as s3:
        base, bucket = tmp_path / "base", s3.make_bucket("pictures")
        variables = {
            "WARMUP_WORKFLOW": str(path),
            "BUCKET_ENDPOINT_URL": s3.url,
            "BUCKET_NAME": bucket.name,
            "BUCKET_ACCESS_KEY_ID": ACCESS_KEY,
            "BUCKET_SECRET_ACCESS_KEY": SECRET_KEY,
        }
        with running_endpoint(base, extra_nodes=(FAULT_NODES,), **variables) as (platform, _):
            assert [found for found in bucket.rglob("*") if found.is_file()] == []
            job = platform.run_sync(request)
            assert job["output"]["images"][0]["type"] == "s3_url"
            assert len([found for found in bucket.rglob("*") if found.is_file()]) == 1


@pytest.mark.parametrize("sent", ["stored", "editor"])
def test_a_warm_up_may_be_a_file_of_any_kind(sent: str, tmp_path: Path) -> None:
    file = FRAME if sent == "editor" else tmp_path / "warm-up.json"
    if sent == "stored":
        file.write_text('{"workflow": "frame"}')
    variables = {"WARMUP_WORKFLOW": str(file), "WORKFLOWS_PATH": str(FRAME.parent)}
    base = tmp_path / "base"
    with running_endpoint(base, extra_nodes=(FAULT_NODES,), **variables) as (_, handler):
        done = [line["job_id"] for line in handler.lines() if line.get("event") == "job_done"]
        assert done == ["warm-up"]


@pytest.mark.skipif(memory.free_bytes() < 2 * RESERVE_BYTES, reason="memory is short")
def test_models_are_read_while_comfyui_starts(tmp_path: Path) -> None:
    loras = tmp_path / "base" / "models" / "loras"
    loras.mkdir(parents=True)
    (loras / "style.safetensors").write_bytes(safetensors(1_000_000))
    slow = tmp_path / "slow_nodes.py"
    slow.write_text("import time\ntime.sleep(5)\nNODE_CLASS_MAPPINGS = {}\n")
    variables = {"PRELOAD_MODELS": "style.safetensors"}
    with running_endpoint(tmp_path / "base", extra_nodes=(slow,), **variables) as (_, handler):
        events = handler.events()
        assert events.index("models_preloaded") < events.index("comfyui_ready")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (json.dumps({"1": node("TestFail", message="cannot warm up")}), "cannot warm up"),
        (json.dumps({"1": node("NoSuchNode")}), "NoSuchNode"),
    ],
)
def test_a_warm_up_workflow_that_fails_ends_the_worker(
    content: str, reason: str, platform: RunningPlatform, tmp_path: Path
) -> None:
    path = tmp_path / "warm-up.json"
    path.write_text(content)
    handler = failed_start(platform, tmp_path / "base", WARMUP_WORKFLOW=str(path))
    (line,) = [line for line in handler.lines() if line.get("event") == "start_failed"]
    assert line["error_code"] == "CONFIGURATION_ERROR"
    assert "WARMUP_WORKFLOW" in line["message"]
    assert reason in line["message"]


# --- what is reachable from outside


def test_comfyui_listens_on_the_loopback_address_only(tmp_path: Path) -> None:
    with running_endpoint(tmp_path / "base") as (_, handler):
        assert listening(handler.comfyui_pids()) == {"127.0.0.1"}


def test_comfyui_listens_elsewhere_where_the_operator_says_so(tmp_path: Path) -> None:
    base = tmp_path / "base"
    flags = handler_environment(base)["COMFYUI_ARGS"] + " --listen 0.0.0.0"
    with running_endpoint(base, COMFYUI_ARGS=flags) as (_, handler):
        assert listening(handler.comfyui_pids()) == {"0.0.0.0"}  # noqa: S104  # asked for


def listening(pids: list[int]) -> set[str]:
    """The IPv4 addresses on which processes listen."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = str(link.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                address = words[1].partition(":")[0]
                assert len(address) == 8, "it listens on IPv6"
                found.add(".".join(str(byte) for byte in reversed(bytes.fromhex(address))))
    return found


def test_a_proxy_for_the_internet_is_not_used_for_comfyui(tmp_path: Path) -> None:
    dead = "http://127.0.0.1:1"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
    proxies = {**dict.fromkeys(names, dead), "NO_PROXY": "", "no_proxy": ""}
    with running_platform() as platform:
        environment = {**handler_environment(tmp_path), **on_platform(platform), **proxies}
        job_id = platform.run({"workflow": {"1": node("TestSleepOutput", seconds=0.5)}})
        with running_handler(tmp_path, environment) as handler:
            job = platform.wait(job_id, 60)
        assert job["status"] == "COMPLETED", handler.log()
        assert not any("no websocket" in line["message"] for line in handler.lines())
