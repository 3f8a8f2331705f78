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
    settings = settings_from({"WARMUP_WORKFLOW": str(warm_up), "COMFYUI_ARGS": "--port 8188"})
    assert settings.warmup_workflow == warm_up


def test_all_problems_come_in_one_go(tmp_path: Path) -> None:
    message = problems(
        MAX_INPUT_MB="lots",
        COMFYUI_ARGS="--port",
        WARMUP_WORKFLOW=str(tmp_path / "missing.json"),
        BUCKET_ENDPOINT_URL="https://my-bucket.s3.amazonaws.com",
        BUCKET_NAME="another",
        BUCKET_ACCESS_KEY_ID="key",
    )
    for word in (
        "MAX_INPUT_MB must be a number",
        "COMFYUI_ARGS: argument --port: expected one argument",
        "WARMUP_WORKFLOW cannot be used",
        "missing.json",
        "BUCKET_SECRET_ACCESS_KEY must be set as well",
        "BUCKET_ENDPOINT_URL",
    ):
        assert word in message
    assert message.count("; ") >= 4


@pytest.mark.parametrize("content", ["{", "[]", "", "[" * 100_000])
def test_a_warm_up_file_without_a_workflow_is_a_problem(tmp_path: Path, content: str) -> None:
    path = tmp_path / "warm-up.json"
    path.write_text(content)
    assert "WARMUP_WORKFLOW cannot be used" in problems(WARMUP_WORKFLOW=str(path))
