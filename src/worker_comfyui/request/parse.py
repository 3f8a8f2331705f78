"""What the platform handed over → a `Job`. Pure; all problems are told at once, with paths."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from worker_comfyui.config import Secret
from worker_comfyui.errors import InvalidRequest, InvalidWorkflow
from worker_comfyui.job import Job, Workflow, understand_inputs
from worker_comfyui.request.delivery_options import is_output_option, output_options, s3_config
from worker_comfyui.request.files import input_files
from worker_comfyui.request.problems import Problems, kind_of
from worker_comfyui.request.shape import check_shape
from worker_comfyui.wording import cut, json_fault, likely, listed

INPUT_FIELDS = (
    "workflow",
    "images",
    "files",
    "comfy_org_api_key",
    "api_key_comfy_org",
    "output",
    "timeout_s",
    "overrides",
    "models",
    "dry_run",
    "extra_data",
)
BESIDE_THE_INPUT = ("s3Config", "webhook", "policy")
NOT_OF_THE_API_FORMAT = ("nodes", "prompt", "workflow", "input", "output")
"""Names that a workflow's own nodes do not have: the editor's format, or a wrapping around one."""
OF_THE_WORKER = ("api_key_comfy_org", "auth_token_comfy_org", "client_id", "create_time")
"""What stands in ComfyUI's `extra_data` and is the worker's to say."""
MAX_TIMEOUT_S = 7 * 24 * 3600  # as the platform's `policy.executionTimeout`
MAX_UNKNOWN = 50

_EXPORT = InvalidWorkflow.hint


def parse(raw: Mapping[str, Any]) -> Job:
    """Check a job as the SDK hands it over: `{"id": ..., "input": ..., "s3Config"?: ...}`.

    `input` may also be the same object as a JSON text, as the existing worker allows. Unknown
    fields of `input` are ignored, so that requests written for other workers go on working; what
    looks like a misspelt or misplaced one is told in the job's warnings.

    Raises:
        InvalidWorkflow: `workflow` is the only thing wrong.
        InvalidRequest: anything else; `details` has all problems, at most `MAX_DETAILS`.
    """
    problems = Problems()
    job_id = raw.get("id")
    job_id = job_id if isinstance(job_id, str) else ""
    sent = _input_object(raw.get("input"))
    if _is_job_of_its_own(sent, "models"):
        return _model_job(job_id, sent)
    if _is_job_of_its_own(sent, "workflows"):
        return _workflows_job(job_id, sent)
    source = _source(sent)
    job = Job(
        id=job_id,
        workflow={} if source is not None else _workflow(sent, problems),
        source=source,
        overrides=sent.get("overrides"),
        models=sent.get("models"),
        dry_run=_dry_run(sent.get("dry_run"), problems),
        extra_data=_extra_data(sent.get("extra_data"), problems),
        files=tuple(input_files(sent, problems)),
        comfy_org_api_key=_key(sent, problems),
        output=output_options(sent.get("output"), problems),
        timeout_s=_timeout(sent.get("timeout_s"), problems),
        s3_config=s3_config(raw.get("s3Config"), problems),
        warnings=tuple(_unknown(sent)),
    )
    if problems.details:
        raise problems.error()
    return job


def _input_object(sent: Any) -> dict[str, Any]:
    if isinstance(sent, str):
        try:
            sent = json.loads(sent)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest.at(
                "input", f"is a text that is not JSON: {json_fault(error)}"
            ) from None
    if sent is None:
        raise InvalidRequest.at("input", 'is missing. Send {"input": {"workflow": {...}}}.')
    if not isinstance(sent, dict):
        raise InvalidRequest.at("input", f"must be an object with `workflow`, not {kind_of(sent)}")
    return _meant(sent)


def _meant(sent: dict[str, Any]) -> dict[str, Any]:
    """Put what is certainly meant where it belongs: an `input` in the input, bare nodes."""
    if _has_workflow(sent):
        return sent
    inner = sent.get("input")
    if isinstance(inner, dict) and _has_workflow(inner):
        return {**sent, **inner}
    if isinstance(sent.get("nodes"), list) and "links" in sent:  # the editor's file
        return {"workflow": sent}
    if any(_is_node(value) for value in sent.values()):
        own = {name: sent[name] for name in INPUT_FIELDS if name in sent}
        fields = {name: value for name, value in own.items() if not _is_node(value)}
        nodes = {name: value for name, value in sent.items() if name not in fields}
        return {**fields, "workflow": nodes}
    return sent


def _has_workflow(sent: dict[str, Any]) -> bool:
    return sent.get("workflow") is not None or sent.get("prompt") is not None


def _is_job_of_its_own(sent: dict[str, Any], name: str) -> bool:
    """Tell a job for what the worker keeps: there is a word in the field, and no workflow."""
    return isinstance(sent.get(name), str) and not _has_workflow(sent)


def _model_job(job_id: str, sent: dict[str, Any]) -> Job:
    problems = Problems()
    timeout_s = _timeout(sent.get("timeout_s"), problems)
    rest = {k: v for k, v in sent.items() if k != "timeout_s" and v is not None}
    job = Job(job_id, {}, timeout_s=timeout_s, model_job=rest)
    if problems.details:
        raise problems.error()
    return job


def _workflows_job(job_id: str, sent: dict[str, Any]) -> Job:
    problems = Problems()
    timeout_s = _timeout(sent.get("timeout_s"), problems)
    if sent["workflows"] != "list":
        said = "must be `list`; a stored workflow runs by its name in `workflow`"
        problems.add("workflows", said)
    if problems.details:
        raise problems.error()
    return Job(job_id, {}, timeout_s=timeout_s, lists_workflows=True)


def _source(sent: dict[str, Any]) -> Any:
    """Return what a workflow is to be made of; None: it is in the API format, or missing."""
    workflow, prompt = sent.get("workflow"), sent.get("prompt")
    is_json = isinstance(prompt, str) and prompt.lstrip("\ufeff \t\r\n")[:1] == "{"
    if workflow is None and (is_json or isinstance(prompt, dict)):  # ComfyUI's own name for it
        return {"prompt": prompt, "extra_data": sent.get("extra_data") or {}}
    if isinstance(workflow, str) and workflow.strip():
        return workflow
    is_other = isinstance(workflow, dict) and any(
        isinstance(workflow.get(name), dict | list | str) and not _is_node(workflow[name])
        for name in NOT_OF_THE_API_FORMAT
    )
    return workflow if is_other else None


def _is_node(value: Any) -> bool:
    """Tell a node with an odd id from what has a workflow in it."""
    return isinstance(value, dict) and "class_type" in value


def _dry_run(sent: Any, problems: Problems) -> bool:
    if sent is None or isinstance(sent, bool):
        return sent is True
    if isinstance(sent, str) and sent.lower() in {"true", "false"}:  # from a form
        return sent.lower() == "true"
    problems.add("dry_run", "must be true or false")
    return False


def _extra_data(sent: Any, problems: Problems) -> dict[str, Any]:
    if sent is None:
        return {}
    if not isinstance(sent, dict):
        problems.add("extra_data", f"must be an object, not {kind_of(sent)}")
        return {}
    kept = {name: value for name, value in sent.items() if name not in OF_THE_WORKER}
    if not isinstance(kept.get("extra_pnginfo", {}), dict):
        problems.add("extra_data.extra_pnginfo", "must be an object")
        return {}
    return kept


def _workflow(sent: dict[str, Any], problems: Problems) -> Workflow:
    workflow = sent.get("workflow")
    if workflow is None:
        others = [name for name in sent if name not in INPUT_FIELDS]
        beside = f"; sent were {listed(others)}" if others else ""
        problems.add("workflow", f"is missing{beside}. {_EXPORT}")
    elif not isinstance(workflow, dict):
        problems.add("workflow", f"must be an object, not {kind_of(workflow)}. {_EXPORT}")
    elif not workflow:
        problems.add("workflow", f"has no nodes. {_EXPORT}")
    else:
        check_shape(workflow, "workflow", problems.add)
        if not problems.details:
            understand_inputs(workflow)
        return workflow
    return {}


def _key(sent: dict[str, Any], problems: Problems) -> Secret | None:
    # The existing worker's documentation had the second name, its code the first; ComfyUI's own
    # API has the second one in `extra_data`.
    extra = sent.get("extra_data")
    in_extra = extra.get("api_key_comfy_org") if isinstance(extra, dict) else None
    for name, key in (
        ("comfy_org_api_key", sent.get("comfy_org_api_key")),
        ("api_key_comfy_org", sent.get("api_key_comfy_org")),
        ("extra_data.api_key_comfy_org", in_extra),
    ):
        if isinstance(key, str) and key:
            return Secret(key)
        if key is not None and key != "":
            problems.add(name, f"must be a text, not {kind_of(key)}")
    return None


def _timeout(sent: Any, problems: Problems) -> float | None:
    if sent is None:
        return None
    if isinstance(sent, (int, float)) and not isinstance(sent, bool) and 0 < sent <= MAX_TIMEOUT_S:
        return float(sent)
    problems.add("timeout_s", f"must be a number of seconds above 0, at most {MAX_TIMEOUT_S}")
    return None


def _unknown(sent: dict[str, Any]) -> Iterator[str]:
    """Warn of fields that were meant to be others; what is somebody else's is ignored."""
    unknown = (name for name in sent if name not in INPUT_FIELDS)
    for name in islice(unknown, MAX_UNKNOWN):
        if name in BESIDE_THE_INPUT:
            yield f"`{name}` was ignored: it belongs beside `input`, not in it"
        elif is_output_option(name, sent[name]):
            yield f"`{name}` was ignored: it belongs in `output`"
        elif (close := likely(name, INPUT_FIELDS, at_least=0.8)) and close not in sent:
            yield f"`{cut(name)}` is unknown and was ignored; did you mean `{close}`?"
