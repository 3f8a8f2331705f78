"""The client for people, as a program, against a platform with stub workers."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from local_runpod.client.endpoint import EndpointClient, endpoint_url
from tests.support.platform import ROOT, RunningPlatform, running_platform
from tests.support.waiting import wait_until

PICTURE = {"filename": "a.png", "type": "base64", "data": base64.b64encode(b"picture").decode()}


def start_submit(
    platform: RunningPlatform,
    folder: Path,
    *arguments: str,
    apart: bool = False,
    **environment: str,
) -> subprocess.Popen[str]:
    """Start the command in a folder; `apart`: with a stderr of its own."""
    command = [sys.executable, "-m", "local_runpod", "submit", "--endpoint", platform.url]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if apart else subprocess.STDOUT,
        text=True,
    )


def submit(
    platform: RunningPlatform, folder: Path, *arguments: str, **environment: str
) -> tuple[int, str]:
    """Run the command; gives its exit code and what it printed."""
    with start_submit(platform, folder, *arguments, apart=False, **environment) as process:
        text, _ = process.communicate(timeout=60)
        return process.returncode, text


def write_request(folder: Path, job_input: Any, **fields: Any) -> str:
    path = folder / "request.json"
    path.write_text(json.dumps({"input": job_input, **fields}))
    return path.name


def test_outputs_are_saved_and_timings_printed(platform: RunningPlatform, tmp_path: Path) -> None:
    progress = {"percent": 45, "node_id": "3", "node": "KSampler", "message": "KSampler (node 3)"}
    result = {"images": [PICTURE], "errors": ["a warning"], "timings": {"execution_ms": 1500}}
    request = write_request(tmp_path, {"progress": [progress], "sleep": 1, "result": result})
    code, text = submit(platform, tmp_path, request)
    assert code == 0, text
    assert (tmp_path / "output" / "a.png").read_bytes() == b"picture"
    assert "output/a.png  (7 bytes)" in text
    assert "45 %  KSampler (node 3)" in text
    assert "Warning from the worker: a warning" in text
    assert re.search(r"total \d\.\d s, in the queue \d+ ms, on the worker \d\.\d s", text)
    assert "execution 1.5 s" in text


def test_a_failed_job_says_why_and_exits_with_1(platform: RunningPlatform, tmp_path: Path) -> None:
    error = {
        "error": "INVALID_WORKFLOW: node 3 is wrong",
        "details": [
            {"node_id": "3", "input": "width", "received": "x", "message": "is 'x'"},
            {"path": "images[0].name", "message": "is missing"},
        ],
        "retryable": True,
    }
    code, text = submit(platform, tmp_path, write_request(tmp_path, {"result": error}))
    assert code == 1
    assert "The job is FAILED: INVALID_WORKFLOW: node 3 is wrong" in text
    assert "  - node 3, input width: is 'x'\n  - images[0].name: is missing\n" in text
    assert "may succeed when it is sent again" in text


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_ctrl_c_cancels_the_job(
    handler: signal.Handlers, platform: RunningPlatform, tmp_path: Path
) -> None:
    """A shell without job control starts a background job with SIGINT ignored."""
    before = platform.health()["jobs"]
    request = write_request(tmp_path, {"sleep": 60})
    previous = signal.signal(signal.SIGINT, handler)
    try:
        started = start_submit(platform, tmp_path, request)
    finally:
        signal.signal(signal.SIGINT, previous)
    with started as process:
        wait_until(lambda: platform.health()["jobs"]["inProgress"] != before["inProgress"])
        time.sleep(0.3)  # it has its job's id by now
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "is CANCELLED" in text
    job_id = text.split("The job ")[1].split()[0]
    assert platform.status(job_id)["status"] == "CANCELLED"


def wait_for_text(stream: Any, text: str) -> str:
    """Read lines until one has the text; gives it."""
    for line in stream:
        if text in line:
            return str(line)
    raise AssertionError(f"it ended without {text!r}")


def test_a_detached_job_can_be_followed_later(platform: RunningPlatform, tmp_path: Path) -> None:
    request = write_request(tmp_path, {"result": {"images": [PICTURE]}})
    with start_submit(platform, tmp_path, request, "--async", apart=True) as process:
        printed, noted = process.communicate(timeout=60)
    job_id = printed.removesuffix("\n")
    assert platform.status(job_id)["id"] == job_id  # it stands alone
    assert noted.endswith(f"./scripts/submit --endpoint {platform.url} --job {job_id}\n")
    code, text = submit(platform, tmp_path, "--job", job_id, "--output", "elsewhere")
    assert code == 0, text
    assert (tmp_path / "elsewhere" / "a.png").read_bytes() == b"picture"


def test_ctrl_c_while_following_leaves_the_job_alone(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    job_id = platform.run({"progress": [{"percent": 7, "node": "Slow"}], "sleep": 60})
    with start_submit(platform, tmp_path, "--job", job_id) as process:
        wait_for_text(process.stdout, "Slow")
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert f"The job goes on. Follow it: ./scripts/submit --endpoint {platform.url}" in text
    assert platform.status(job_id)["status"] == "IN_PROGRESS"
    platform.post(f"/cancel/{job_id}")


@pytest.mark.parametrize(
    ("given", "printed"),
    [(["--api-key", "right"], "--api-key KEY"), (["--api-key=@key.txt"], "--api-key @key.txt")],
)
def test_the_line_to_follow_a_job_has_the_key_option_but_not_the_key(
    tmp_path: Path, given: list[str], printed: str
) -> None:
    (tmp_path / "key.txt").write_text("right\n")
    request = write_request(tmp_path, {})
    with running_platform(api_keys=("right",)) as gateway:
        code, text = submit(gateway, tmp_path, request, "--async", *given)
        assert code == 0, text
        assert text.endswith(f" {printed}\n")
        assert "right" not in text


def test_a_key_is_not_in_ps_while_a_job_is_followed(tmp_path: Path) -> None:
    with running_platform(api_keys=("s3cret",)) as gateway:
        headers = {"Authorization": "Bearer s3cret"}
        job_id = gateway.post("/run", {"input": {}}, headers).json()["id"]
        arguments = ["--job", job_id, "--api-key", "s3cret"]
        with start_submit(gateway, tmp_path, *arguments) as process:
            wait_for_text(process.stdout, "waiting for a worker")
            assert "s3cret" not in " ".join(psutil.Process(process.pid).cmdline())
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)


@pytest.mark.parametrize("option", ["@missing", "@empty"])
def test_a_key_file_that_has_no_key_is_named(
    platform: RunningPlatform, tmp_path: Path, option: str
) -> None:
    (tmp_path / "empty").write_text("\n")
    request = write_request(tmp_path, {})
    code, text = submit(platform, tmp_path, request, "--api-key", option)
    assert code == 2
    assert text.startswith(f"--api-key {option}: ")


def test_values_are_set_and_a_dry_run_is_asked_for(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    settings = ["6.text=a cat = good", "3.seed=7", "3.size=[1, 2]", "3.on=true"]
    options = [option for setting in settings for option in ("--set", setting)]
    request = write_request(tmp_path, {"overrides": {"6.text": "old", "9.x": 1}})
    code, text = submit(platform, tmp_path, request, *options, "--dry-run")
    assert code == 0, text
    echo = json.loads((tmp_path / "output" / "result.json").read_text())["echo"]
    assert echo["overrides"] == {
        "6.text": "a cat = good",
        "9.x": 1,
        "3.seed": 7,
        "3.size": [1, 2],
        "3.on": True,
    }
    assert echo["dry_run"] is True


def test_the_result_of_a_dry_run_is_explained(platform: RunningPlatform, tmp_path: Path) -> None:
    problem = {"node_id": "3", "class_type": "Scale", "input": "width", "message": "is 'x'"}
    result = {"status": "dry_run", "workflow": {"3": {}}, "inputs": [], "problems": [problem]}
    code, text = submit(platform, tmp_path, write_request(tmp_path, {"result": result}))
    assert code == 1
    assert "  - node 3 (Scale), input width: is 'x'\nIt would not run as it is.\n" in text
    assert json.loads((tmp_path / "output" / "workflow.json").read_text()) == {"3": {}}


def test_images_are_attached_to_a_plain_workflow(platform: RunningPlatform, tmp_path: Path) -> None:
    (tmp_path / "workflow.json").write_text('{"1": {"class_type": "LoadImage", "inputs": {}}}')
    (tmp_path / "cat.png").write_bytes(b"cat")
    code, text = submit(platform, tmp_path, "workflow.json", "--image", "in.png=cat.png")
    assert code == 0, text
    echo = json.loads((tmp_path / "output" / "result.json").read_text())["echo"]
    assert echo["images"] == [{"name": "in.png", "image": base64.b64encode(b"cat").decode()}]
    assert echo["workflow"]["1"]["class_type"] == "LoadImage"


def test_a_request_over_10_mib_is_sent_to_runsync(platform: RunningPlatform) -> None:
    client = EndpointClient(platform.url)
    job_id = client.submit({"input": {"x": "y" * 11_000_000, "result": "small"}})
    assert job_id.startswith("sync-")
    assert client.follow(job_id, lambda _job: None)["output"] == "small"


@pytest.mark.parametrize("arguments", [[], ["missing.json"]])
def test_a_request_that_cannot_be_read_exits_with_2(
    platform: RunningPlatform, tmp_path: Path, arguments: list[str]
) -> None:
    code, text = submit(platform, tmp_path, *arguments)
    assert code == 2
    assert "Traceback" not in text


def test_an_endpoint_that_does_not_answer_is_explained(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    request = write_request(tmp_path, {})
    code, text = submit(platform, tmp_path, request, "--endpoint", "127.0.0.1:1")
    assert code == 2
    assert text == "Nothing answers at http://127.0.0.1:1. Start it: ./scripts/serve\n"


def test_a_wrong_key_is_explained_and_the_right_one_is_taken_from_the_environment(
    tmp_path: Path,
) -> None:
    request = write_request(tmp_path, {})
    with running_platform(api_keys=("right",)) as gateway:
        code, text = submit(gateway, tmp_path, request, RUNPOD_API_KEY="wrong")
        assert code == 2
        assert "answered 401" in text
        assert "--api-key" in text
        code, text = submit(gateway, tmp_path, request, "--async", RUNPOD_API_KEY="right")
        assert code == 0, text


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("abc123xyz", "https://api.runpod.ai/v2/abc123xyz"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("localhost:8000", "http://localhost:8000"),
        ("https://api.runpod.ai/v2/abc", "https://api.runpod.ai/v2/abc"),
    ],
)
def test_an_endpoint_is_an_id_or_an_address(endpoint: str, url: str) -> None:
    assert endpoint_url(endpoint) == url
