"""docs/openapi.json is valid, current, and says what the server and its clients do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from local_runpod.gateway.openapi import description
from tests.support.described import DOCUMENT, check
from tests.support.platform import RunningPlatform, running_platform

ROOT = Path(__file__).resolve().parents[2]


def test_it_is_valid() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_it_is_current() -> None:
    schemas = [
        json.loads((ROOT / "docs" / "schemas" / f"{name}.schema.json").read_text())
        for name in ("request", "result")
    ]
    assert description(*schemas) == DOCUMENT, "run ./scripts/openapi"


@pytest.fixture(scope="module")
def gateway() -> Any:
    with running_platform() as running:
        yield running


def test_it_is_served(gateway: RunningPlatform) -> None:
    assert gateway.get("/openapi.json").json() == DOCUMENT


def test_it_names_every_operation_of_the_server_and_no_other(gateway: RunningPlatform) -> None:
    detail = gateway.get("/nothing").json()["detail"]
    served = set(re.findall(r"/([a-z.-]+)", detail)) - {"page", "openapi.json"}
    assert {path.split("/")[1] for path in DOCUMENT["paths"]} == served


def test_its_methods_are_those_of_the_server(gateway: RunningPlatform) -> None:
    for path, operations in DOCUMENT["paths"].items():
        for method in operations:
            answer = gateway.post if method == "post" else gateway.get
            assert answer(path.replace("{id}", "nobody")).status_code != 405, path


def test_answers_are_as_described(gateway: RunningPlatform) -> None:
    job = gateway.post("/run", {"input": {"workflow": {"1": {"class_type": "A", "inputs": {}}}}})
    check("Accepted", job.json())
    job_id = job.json()["id"]
    for path, schema in {
        f"/status/{job_id}": "Job",
        f"/stream/{job_id}?wait=10": "Stream",
        "/health": "Health",
        "/jobs": "JobList",
        "/status/nobody": "Problem",
    }.items():
        check(schema, gateway.get(path).json())
    check("Job", gateway.post(f"/cancel/{job_id}").json())
    check("Purged", gateway.post("/purge-queue").json())
