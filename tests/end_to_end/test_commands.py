"""`./scripts/run` and `./scripts/submit` with the real worker; RunPod's own client."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.end_to_end.workflows import request, solid_colour
from tests.support.platform import ROOT, RunningPlatform


def command(*arguments: str, folder: Path, code: int = 0, **variables: str) -> str:
    """Run a script in a folder; gives what it printed."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    result = subprocess.run(
        [str(ROOT / "scripts" / arguments[0]), *arguments[1:]],
        cwd=folder,
        env={**os.environ, **variables, "TMPDIR": str(temporary)},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    assert result.returncode == code, result.stdout
    assert list(temporary.iterdir()) == []
    return result.stdout


def test_run_saves_the_pictures_of_the_example(tmp_path: Path) -> None:
    text = command("run", "--output", "pictures", folder=tmp_path)
    for name in ("day_00001_.png", "night_00001_.png"):
        assert f"pictures/{name}" in text
        with Image.open(tmp_path / "pictures" / name) as picture:
            assert picture.size == (640, 400)
    assert "Next:" in text


def test_run_of_a_wrong_request_explains_it_and_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text(
        '{"input": {"workflow": {"1": {"class_type": "Nope", "inputs": {}}}}}'
    )
    text = command("run", "wrong.json", "--output", "out", folder=tmp_path, code=1)
    assert "Nope" in text
    assert "out/run.log" in text


def test_run_says_what_the_start_waits_for(tmp_path: Path) -> None:
    variables = {"COMFY_HOST": "127.0.0.1:1", "COMFY_START_TIMEOUT_S": "5"}
    text = command("run", "--output", "out", folder=tmp_path, code=1, **variables)
    line = next(line for line in text.splitlines() if "s more" in line)
    assert line.startswith("worker-1 | ")
    assert "127.0.0.1:1 (COMFY_HOST): ComfyUI did not answer" in line


@pytest.mark.parametrize("name", ["run", "serve", "submit"])
def test_an_option_that_is_none_gets_the_usage_of_its_script(tmp_path: Path, name: str) -> None:
    text = command(name, "--nope", folder=tmp_path, code=2)
    assert text.startswith(f"usage: ./scripts/{name} [-h] [--")
    assert f"./scripts/{name}: error: unrecognized arguments: --nope" in text


def test_submit_sends_a_workflow_with_a_local_picture(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "cat.png")
    workflow = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "in.png"}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "i"}},
    }
    (tmp_path / "workflow.json").write_text(json.dumps(workflow))
    arguments = ["workflow.json", "--image", "in.png=cat.png", "--endpoint", platform.url]
    command("submit", *arguments, folder=tmp_path)
    with Image.open(tmp_path / "output" / "i_00001_.png") as picture:
        assert picture.convert("RGB").getpixel((4, 4)) == (0, 255, 255)


def test_runpods_python_client_gets_the_pictures(platform: RunningPlatform) -> None:
    handlers = logging.root.handlers[:]
    import runpod  # noqa: PLC0415 - takes two seconds

    logging.root.handlers = handlers
    before = runpod.endpoint_url_base
    runpod.endpoint_url_base = f"{platform.url}/v2"
    try:
        endpoint = runpod.Endpoint("any", api_key="any")
        output = endpoint.run_sync({"input": request(solid_colour(3))})
    finally:
        runpod.endpoint_url_base = before
    assert output["images"][0]["filename"] == "colour_00001_.png"
