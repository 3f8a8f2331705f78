from __future__ import annotations

import json
from pathlib import Path

import pytest

from worker_comfyui.errors import ConfigurationError
from worker_comfyui.preflight import settings_from


def problems(**variables: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        settings_from(variables)
    return caught.value.message


def test_what_is_right_is_read(tmp_path: Path) -> None:
    warm_up = tmp_path / "warm-up.json"
    warm_up.write_text(json.dumps({"1": {"class_type": "X", "inputs": {}}}))
    (tmp_path / "main.py").touch()
    settings = settings_from(
        {
            "COMFYUI_PATH": str(tmp_path),
            "COMFYUI_PYTHON": "python3",
            "WARMUP_WORKFLOW": str(warm_up),
            "COMFYUI_ARGS": "--port 8188",
            "MODEL_CATALOG": "[]",
        }
    )
    assert settings.warmup_workflow == warm_up


def test_all_problems_come_in_one_go(tmp_path: Path) -> None:
    message = problems(
        MAX_INPUT_MB="lots",
        COMFYUI_PATH=str(tmp_path / "nowhere"),
        COMFYUI_PYTHON=str(tmp_path / "no-python"),
        COMFYUI_ARGS="--port",
        MODEL_CATALOG='{"models": [{"folder": "loras"}]}',
        WARMUP_WORKFLOW=str(tmp_path / "missing.json"),
        BUCKET_ENDPOINT_URL="https://my-bucket.s3.amazonaws.com",
        BUCKET_NAME="another",
        BUCKET_ACCESS_KEY_ID="key",
    )
    for word in (
        "MAX_INPUT_MB must be a number",
        f"COMFYUI_PATH must be ComfyUI's folder, but there is no {tmp_path}/nowhere/main.py",
        f"COMFYUI_PYTHON must be a Python that can be run, which {tmp_path}/no-python is not",
        "COMFYUI_ARGS: argument --port: expected one argument",
        "MODEL_CATALOG[0]",
        "WARMUP_WORKFLOW cannot be used",
        "missing.json",
        "BUCKET_SECRET_ACCESS_KEY must be set as well",
        "BUCKET_ENDPOINT_URL",
    ):
        assert word in message
    assert message.count("; ") >= 4


def test_where_comfyui_is_does_not_matter_if_it_runs_already(tmp_path: Path) -> None:
    settings_from({"COMFY_HOST": "127.0.0.1:8188", "COMFYUI_PATH": str(tmp_path / "nowhere")})


@pytest.mark.parametrize("content", ["{", "[]", "", "[" * 100_000])
def test_a_warm_up_file_without_a_workflow_is_a_problem(tmp_path: Path, content: str) -> None:
    path = tmp_path / "warm-up.json"
    path.write_text(content)
    assert "WARMUP_WORKFLOW cannot be used" in problems(WARMUP_WORKFLOW=str(path))
