"""Whatever is sent as a job, the SDK's handler answers with an error that can be posted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from worker_comfyui.comfyui.supervisor import Supervisor
from worker_comfyui.config import Settings
from worker_comfyui.errors import JobError
from worker_comfyui.platform_side.serverless import make_handler
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
    handler = make_handler(worker, concurrency=1)
    with asyncio.Runner() as runner:

        @settings(max_examples=2000)
        @given(job=jobs)
        def check(job: dict[str, Any]) -> None:
            assume(is_malformed(job))
            result = runner.run(_answer(handler, {"id": "1", **job}))
            assert result["error"].startswith(f"{result['error_code']}: ")
            assert result["error_code"] in {"INVALID_REQUEST", "INVALID_WORKFLOW"}
            assert all(detail["path"] and detail["message"] for detail in result["details"])
            json.dumps(result, ensure_ascii=False, allow_nan=False).encode()

        check()


async def _answer(handler: Any, job: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = await handler(job)
    return answer
