from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from worker_comfyui.comfyui.process.supervisor import Supervisor
from worker_comfyui.config import Settings
from worker_comfyui.errors import WorkerError, public_errors
from worker_comfyui.redaction import Redactor
from worker_comfyui.run.context import JobContext
from worker_comfyui.worker import Worker

ROOT = Path(__file__).resolve().parents[2]


def test_a_defect_of_the_worker_is_an_error_of_the_job_and_its_traceback_is_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_context: JobContext, _limit_bytes: int) -> None:
        raise ZeroDivisionError("private words")

    monkeypatch.setattr("worker_comfyui.worker.run_job", broken)
    settings = Settings()
    worker = Worker(settings, Supervisor(settings, {}), Redactor())
    request = {"workflow": {"1": {"class_type": "A", "inputs": {}}}}
    with caplog.at_level(logging.ERROR):
        result = worker.run({"id": "job-1", "input": request}, lambda: False, lambda _: None)
    assert result["error_code"] == "INTERNAL_ERROR"
    assert "private words" not in result["error"]
    assert "ZeroDivisionError: private words" in caplog.text
    [line] = caplog.records
    assert (vars(line)["event"], vars(line)["error_code"]) == ("job_failed", "INTERNAL_ERROR")


BOTO3_AT_START = """
import os, sys
from worker_comfyui.comfyui.process.supervisor import Supervisor
from worker_comfyui.config import Settings
from worker_comfyui.redaction import Redactor
from worker_comfyui.run.context import JobContext
from worker_comfyui.worker import Worker
settings = Settings.from_env(os.environ)
Worker(settings, Supervisor(settings, {}), Redactor())
print("boto3" in sys.modules)
"""


@pytest.mark.parametrize("bucket", [True, False])
def test_boto3_is_loaded_before_the_first_job_and_only_where_there_is_a_bucket(
    bucket: bool,
) -> None:
    variables = {
        "BUCKET_ENDPOINT_URL": "https://pictures.s3.eu-central-1.amazonaws.com",
        "BUCKET_ACCESS_KEY_ID": "access key",
        "BUCKET_SECRET_ACCESS_KEY": "secret key",
    }
    done = subprocess.run(
        [sys.executable, "-c", BOTO3_AT_START],
        env={"PYTHONPATH": str(ROOT / "src"), **(variables if bucket else {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"{bucket}\n"


@pytest.mark.parametrize("error", list(public_errors()), ids=lambda error: error.code)
def test_every_public_error_is_raised_by_the_worker_and_met_by_a_test(
    error: type[WorkerError],
) -> None:
    raised = re.compile(rf"\b{error.__name__}(\(|\.of\(|\.at\(| if )")
    sources = [p for p in (ROOT / "src/worker_comfyui").rglob("*.py") if p.name != "errors.py"]
    assert any(raised.search(path.read_text()) for path in sources)
    met = re.compile(
        rf'raises\({error.__name__}\b|error_code"\] == "{error.code}"|"{error.code}: '
        rf'|isinstance\(\w+, {error.__name__}\)|"{error.code}" in|\.code == "{error.code}"'
    )
    assert any(met.search(path.read_text()) for path in (ROOT / "tests").rglob("test_*.py"))
