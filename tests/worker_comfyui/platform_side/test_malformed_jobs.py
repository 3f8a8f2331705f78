"""Whatever is sent as a job, the answer is an error that can be posted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from worker_comfyui.comfyui.process.supervisor import Supervisor
from worker_comfyui.config import Settings
from worker_comfyui.errors import JobError
from worker_comfyui.platform_side.running import Runner
from worker_comfyui.redaction import Redactor
from worker_comfyui.request import parse as request
from worker_comfyui.worker import Worker

REQUEST_FIELDS = ("workflow", "images", "files", "output", "timeout_s", "comfy_org_api_key")

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
keys = st.text(max_size=10) | st.sampled_from((*REQUEST_FIELDS, "name", "image", "class_type"))
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
jobs = st.fixed_dictionaries(
    {},
    optional={
        "input": json_values
        | st.fixed_dictionaries({}, optional=dict.fromkeys(REQUEST_FIELDS, json_values))
        | json_values.map(json.dumps),
        "s3Config": json_values,
    },
)


def is_malformed(job: dict[str, Any]) -> bool:
    try:
        request.parse(job)
    except JobError:
        return True
    return False


def test_a_malformed_job_gets_an_error_with_a_code_and_paths() -> None:
    worker = Worker(Settings(), Supervisor(Settings(), {}), Redactor())
    handler = Runner(worker, 1).handler
    with asyncio.Runner() as runner:

        @settings(max_examples=500)
        @given(job=jobs)
        def check(job: dict[str, Any]) -> None:
            assume(is_malformed(job))
            result = runner.run(_answer(handler, {"id": "1", **job}))
            assert result["error"].startswith(f"{result['error_code']}: ")
            assert result["error_code"] in {"INVALID_REQUEST", "INVALID_WORKFLOW"}
            assert all(detail["path"] and detail["message"] for detail in result["details"])
            json.dumps(result, ensure_ascii=False, allow_nan=False).encode()

        check()


@pytest.mark.parametrize("levels", [100, 300, 500, 900, 5_000])
@pytest.mark.parametrize("place", ["input", "workflow", "images", "s3Config", "a node's input"])
def test_a_job_that_nests_without_end_gets_an_error_that_the_log_counts(
    place: str, levels: int, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(Settings(), Supervisor(Settings(), {}), Redactor())
    deep: Any = 1
    for level in range(levels):
        deep = [deep] if level % 2 else {"a": deep}
    node = {"class_type": "A", "inputs": {"x": deep}}
    job: dict[str, Any] = {
        "input": {"input": deep},
        "workflow": {"input": {"workflow": deep}},
        "images": {"input": {"workflow": {}, "images": deep}},
        "s3Config": {"input": {"workflow": {}}, "s3Config": deep},
        "a node's input": {"input": {"workflow": {"1": node, "2": {"inputs": {}}}}},
    }[place]
    result = worker.run({"id": "1", **job}, lambda: False, lambda _: None)
    assert result["error_code"] in {"INVALID_REQUEST", "INVALID_WORKFLOW"}
    json.dumps(result, ensure_ascii=False, allow_nan=False).encode()
    [line] = caplog.records
    assert vars(line)["event"] == "job_failed"
    assert vars(line)["error_code"] == result["error_code"]


async def _answer(handler: Any, job: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = await handler(job)
    return answer
