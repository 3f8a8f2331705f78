"""Programs that the README and the docs show, as they stand there but for the address."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.file_server import serving
from tests.support.hub import Hub, safetensors
from tests.support.platform import ROOT, RunningPlatform
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, serving_s3
from tests.support.shell import run
from tests.support.waiting import comes_true
from tests.support.workflows import saved_image
from worker_comfyui.comfyui.process.port import free_port

RECEIVER = 9000
LOCAL = "http://127.0.0.1:8000"
VOLUME = "/workspace"
RUNPOD_S3 = "https://s3api-eu-ro-1.runpod.io"


def shown(document: str, language: str, word: str) -> str:
    """The one block of a document in this language that has this word."""
    blocks = re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL
    )
    [block] = [block for block in blocks if word in block]
    return str(block)


@pytest.mark.skipif(not shutil.which("jq"), reason="needs jq")
def test_the_metrics_are_in_a_worker_s_log(platform: RunningPlatform, tmp_path: Path) -> None:
    took = [
        platform.run_sync({"workflow": saved_image(color)})["output"]["timings"]["execution_ms"]
        for color in range(3)
    ]
    for workflow in ({}, {"1": {"class_type": "Nope", "inputs": {}}}, {}):
        assert platform.run_sync({"workflow": workflow})["status"] == "FAILED"
    # A node may print what looks like JSON, and is none.
    lines = [*platform.lines[:5], "worker-1 | a node says {'seed': 1}", *platform.lines[5:]]
    (tmp_path / "worker.log").write_text("\n".join(lines))
    codes, median = shown("docs/operating.md", "bash", "jq").splitlines()
    assert run(codes, tmp_path).split() == ["2", "INVALID_WORKFLOW", "1", "PROMPT_REJECTED"]
    assert run(median, tmp_path).strip() == str(sorted(took)[1])


@pytest.mark.skipif(not shutil.which("aws"), reason="needs the AWS command line")
def test_a_file_gets_onto_a_volume_by_the_s3_api(tmp_path: Path) -> None:
    content = os.urandom(9_000_000)  # more than one part
    (tmp_path / "my-lora.safetensors").write_bytes(content)
    with serving_s3(tmp_path / "s3") as s3:
        bucket = s3.make_bucket("my-volume-id")
        command = shown("docs/operating.md", "bash", "aws s3").replace(RUNPOD_S3, s3.url)
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        run(command, tmp_path, **keys)
        assert (bucket / "models" / "loras" / "my-lora.safetensors").read_bytes() == content


def test_the_models_of_a_workflow_are_fetched_in_advance(tmp_path: Path) -> None:
    content = safetensors(1000)
    url = "https://huggingface.co/OWNER/NAME/resolve/main/vae.safetensors"
    model = {"name": "vae.safetensors", "url": url, "directory": "vae"}
    nodes = [{"id": 1, "type": "VAELoader", "properties": {"models": [model]}}]
    (tmp_path / "my-workflow.json").write_text(json.dumps({"nodes": nodes}))
    command = shown("docs/models.md", "bash", "--workflow").replace(VOLUME, f"{tmp_path}/volume")
    with Hub(folder=tmp_path / "hub", one_port=True).running() as hub:
        hub.add("OWNER/NAME/vae.safetensors", content)
        run(command.replace("./scripts", f"{ROOT}/scripts"), tmp_path, HF_ENDPOINT=hub.url)
    assert (tmp_path / "volume/models/vae/vae.safetensors").read_bytes() == content


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("is_there", [True, False])
def test_a_model_is_saved_by_hand_but_no_page_about_an_error(
    is_there: bool, tmp_path: Path
) -> None:
    served, saved = tmp_path / "served", tmp_path / "volume/models/loras/my-lora.safetensors"
    served.mkdir()
    if is_there:
        (served / saved.name).write_bytes(b"a model")
    command = shown("docs/network-volumes.md", "bash", "curl").replace(VOLUME, f"{tmp_path}/volume")
    with serving(served) as url:
        command = command.replace("https://example.com", url)
        if is_there:
            run(command, tmp_path)
        else:
            with pytest.raises(AssertionError, match="404"):
                run(command, tmp_path)
    assert saved.exists() == is_there


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def test_the_receiver_prints_each_job_that_ends(platform: RunningPlatform, tmp_path: Path) -> None:
    port = free_port()
    program = shown("README.md", "bash", "Receiver").replace(str(RECEIVER), str(port))
    log = tmp_path / "log"
    with log.open("w") as stream:
        receiver = subprocess.Popen(
            ["bash", "-c", "exec " + program],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=stream,
        )
    try:
        assert comes_true(lambda: is_open(port), 20)
        job_id = platform.run({"workflow": {}}, webhook=f"http://127.0.0.1:{port}/")
        assert comes_true(lambda: f"{job_id} FAILED\n" in log.read_text(), 20)
    finally:
        receiver.kill()
        receiver.wait()


def test_the_python_sample_prints_the_picture_s_name(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    program = shown("docs/api.md", "python", "runpod.Endpoint").replace(LOCAL, platform.url)
    (tmp_path / "sample.py").write_text(program)
    (tmp_path / "test_input.json").symlink_to(ROOT / "test_input.json")
    printed = run(f"{sys.executable} sample.py", tmp_path)
    assert printed.splitlines()[-1] == "day_00001_.png"
