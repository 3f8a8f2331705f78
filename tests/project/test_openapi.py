"""docs/openapi.json is valid, current, and says what the server and its clients do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from local_runpod.gateway.openapi import description
from tests.support.platform import RunningPlatform, running_platform

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text())


def validator(name: str) -> Draft202012Validator:
    """A validator of one of the document's schemas."""
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", **DOCUMENT})


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
    validator("Accepted").validate(job.json())
    job_id = job.json()["id"]
    for path, schema in {
        f"/status/{job_id}": "Job",
        f"/stream/{job_id}?wait=10": "Stream",
        "/health": "Health",
        "/jobs": "JobList",
        "/status/nobody": "Problem",
    }.items():
        validator(schema).validate(gateway.get(path).json())
    validator("Job").validate(gateway.post(f"/cancel/{job_id}").json())
    validator("Purged").validate(gateway.post("/purge-queue").json())


def samples(document: Path) -> list[Any]:
    """The JSON samples of a document."""
    blocks = re.findall(r"```json\n(.*?)```", document.read_text(), re.DOTALL)
    return [json.loads(block) for block in blocks]


def test_every_sample_of_a_job_is_as_described() -> None:
    seen = 0
    for sample in samples(ROOT / "docs" / "api.md"):
        if isinstance(sample, dict) and "id" in sample and "status" in sample:
            validator("Job").validate(sample)
            seen += 1
        if isinstance(sample, dict) and "input" in sample:
            validator("Request").validate(sample)
            seen += 1
    assert seen >= 5
