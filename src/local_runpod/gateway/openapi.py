"""The API as OpenAPI 3.1, made of the schemas of request and result: `scripts/openapi` writes it.

It describes what RunPod's hosted endpoints and this server have in common, and the worker behind
both; what only this server has says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

LOCAL_ONLY = "Of the local server only."
PROBLEMS = {
    400: "The request is wrong, or too large: `detail` says what.",
    401: "The key is missing or wrong.",
    404: "No job has this id, or it has expired.",
    429: "Too many jobs are waiting.",
}
WAIT = {
    "name": "wait",
    "in": "query",
    "description": "The longest to wait for the job's end, in milliseconds.",
    "schema": {"type": "integer", "minimum": 1000, "maximum": 300_000, "default": 90_000},
}
JOB_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The job's id.",
    "schema": {"type": "string"},
}
MILLISECONDS = {"type": "integer", "minimum": 0}


def description(request: Schema, result: Schema) -> Schema:
    """Make the document.

    Args:
        request: The JSON Schema of a request's body.
        result: The JSON Schema of a finished job's `output`.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "worker-comfyui",
            "version": "1",
            "description": "ComfyUI workflows as jobs of a RunPod serverless endpoint.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [
            {
                "url": "https://api.runpod.ai/v2/{endpoint_id}",
                "description": "An endpoint at RunPod.",
                "variables": {"endpoint_id": {"default": "ENDPOINT_ID"}},
            },
            {"url": "http://127.0.0.1:8000", "description": "./scripts/serve"},
        ],
        "security": [{"key": []}, {}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {**_components(request), **_components(result), **_OWN},
        },
    }


def _paths() -> Schema:
    body = {"required": True, "content": {"application/json": {"schema": _ref("Request")}}}
    return {
        "/run": _post("run", "Queue a job", "Accepted", 400, 429, requestBody=body),
        "/runsync": _post(
            "runsync",
            "Run a job and wait for its end, or until `wait` is over",
            "Job",
            400,
            429,
            requestBody=body,
            parameters=[WAIT],
        ),
        "/status/{id}": _get("status", "A job as it is now", "Job", 404, parameters=[JOB_ID]),
        "/status-sync/{id}": _get(
            "statusSync", "A job, once it is over", "Job", 404, parameters=[JOB_ID, WAIT]
        ),
        "/stream/{id}": _get(
            "stream", "What is new of a job's stream", "Stream", 404, parameters=[JOB_ID, WAIT]
        ),
        "/cancel/{id}": _post("cancel", "End a job", "Job", 404, parameters=[JOB_ID]),
        "/retry/{id}": _post(
            "retry", "Queue a failed job again", "Accepted", 400, 404, parameters=[JOB_ID]
        ),
        "/purge-queue": _post("purgeQueue", "Drop all queued jobs", "Purged"),
        "/health": _get("health", "Counts of jobs and workers", "Health"),
        "/jobs": _get("jobs", "The newest jobs", "JobList", description=LOCAL_ONLY),
    }


def _post(operation_id: str, summary: str, answer: str, *problems: int, **more: Any) -> Schema:
    return {"post": _operation(operation_id, summary, answer, problems, more)}


def _get(operation_id: str, summary: str, answer: str, *problems: int, **more: Any) -> Schema:
    return {"get": _operation(operation_id, summary, answer, problems, more)}


def _operation(
    operation_id: str, summary: str, answer: str, problems: tuple[int, ...], more: Mapping[str, Any]
) -> Schema:
    responses = {"200": _response("Success, whatever became of the job.", answer)}
    for code in sorted({*problems, 401}):
        responses[str(code)] = _response(PROBLEMS[code], "Problem")
    return {"operationId": operation_id, "summary": summary, **more, "responses": responses}


def _response(text: str, schema: str) -> Schema:
    return {"description": text, "content": {"application/json": {"schema": _ref(schema)}}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _components(schema: Schema) -> Schema:
    """Take a JSON Schema apart: itself by its title, and each of its `$defs` by title and name."""
    title = schema["title"]
    names = {name: title + _camel(name) for name in schema.get("$defs", {})}
    own = {name: part for name, part in schema.items() if name not in {"$schema", "$defs"}}
    parts = {names[name]: part for name, part in schema.get("$defs", {}).items()}
    return {name: _with_refs(part, names) for name, part in {title: own, **parts}.items()}


def _with_refs(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_with_refs(part, names) for part in value]
    if not isinstance(value, dict):
        return value
    reference = value.get("$ref")
    if isinstance(reference, str):
        return {**value, **_ref(names[reference.removeprefix("#/$defs/")])}
    return {name: _with_refs(part, names) for name, part in value.items()}


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.replace("-", "_").split("_"))


def _object(required: list[str], **properties: Schema) -> Schema:
    return {"type": "object", "required": required, "properties": properties}


def _counts(*names: str) -> Schema:
    return _object(list(names), **{name: {"type": "integer", "minimum": 0} for name in names})


_STATUS: Schema = {
    "type": "string",
    "enum": ["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"],
}
_JOB: Schema = {
    "id": {"type": "string"},
    "status": _ref("Status"),
    "delayTime": {"description": "Milliseconds in the queue.", **MILLISECONDS},
    "executionTime": {"description": "Milliseconds on the worker.", **MILLISECONDS},
    "workerId": {"type": "string"},
    "retries": {"description": "How often another worker had to begin anew.", **MILLISECONDS},
    "error": {"description": "Why it failed: a code and a sentence.", "type": "string"},
}
_OWN: Schema = {
    "Status": _STATUS,
    "Accepted": _object(["id", "status"], id={"type": "string"}, status={"const": "IN_QUEUE"}),
    "Job": {
        **_object(["id", "status"], **_JOB),
        "properties": {
            **_JOB,
            "output": {
                "description": "The result; while the job runs, its progress.",
                "anyOf": [_ref("Result"), _ref("Progress")],
            },
        },
    },
    "Progress": {
        "description": "How far a running job is.",
        "type": "object",
        "required": ["percent", "message"],
        "properties": {
            "percent": {"type": "integer", "minimum": 0, "maximum": 100},
            "node_id": {"type": "string"},
            "node": {"description": "What the node is called.", "type": "string"},
            "node_percent": {"type": "integer", "minimum": 0, "maximum": 100},
            "message": {"type": "string"},
            "preview": _ref("Preview"),
            "files": {
                "description": "The names of the files that are made already.",
                "type": "array",
                "items": {"type": "string"},
            },
        },
    },
    "Preview": {
        "description": "The picture as it is now, with `output.live`.",
        **_object(
            ["media_type", "data"],
            media_type={"type": "string"},
            data={"description": "base64", "type": "string"},
            width={"type": "integer", "minimum": 1},
            height={"type": "integer", "minimum": 1},
        ),
    },
    "Stream": _object(
        ["status", "stream"],
        status=_ref("Status"),
        stream={"type": "array", "items": _object(["output"], output={})},
    ),
    "Purged": _object(
        ["removed", "status"], removed={"type": "integer"}, status={"const": "completed"}
    ),
    "Health": _object(
        ["jobs", "workers"],
        jobs=_counts("completed", "failed", "inProgress", "inQueue", "retried"),
        workers=_counts("idle", "initializing", "ready", "running", "throttled", "unhealthy"),
    ),
    "JobList": _object(["jobs"], jobs={"type": "array", "items": _ref("ListedJob")}),
    "ListedJob": {
        "description": "A job without what was sent and what came back.",
        **_object(
            ["id", "status", "queuedAt"],
            **_JOB,
            queuedAt={"description": "Milliseconds since 1970.", **MILLISECONDS},
            progress=_object([], percent={"type": "number"}, node={"type": "string"}, node_id={}),
            outputs={
                "description": "How many files of each kind, and texts, there are.",
                "type": "object",
                "additionalProperties": {"type": "integer"},
            },
            isDryRun={"description": "Nothing ran: it only asked.", "type": "boolean"},
        ),
    },
    "Problem": _object(
        ["status", "title", "detail"],
        status={"type": "integer"},
        title={"type": "string"},
        detail={"type": "string"},
    ),
}
