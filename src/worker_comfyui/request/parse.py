"""What the platform handed over → a `Job`. Pure; all problems are reported at once, with paths."""

from __future__ import annotations

import difflib
import json
import math
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from worker_comfyui.config import Secret, http_url
from worker_comfyui.errors import Detail, InvalidRequest, InvalidWorkflow, JobError
from worker_comfyui.job import InputFile, Job, OutputOptions, S3Config, Workflow

INPUT_FIELDS = (
    "workflow",
    "images",
    "files",
    "comfy_org_api_key",
    "api_key_comfy_org",
    "output",
    "timeout_s",
)
OUTPUT_FIELDS = ("delivery", "format", "quality", "metadata")
S3_FIELDS = ("endpointUrl", "accessId", "accessSecret", "bucketName")
MAX_TIMEOUT_S = 7 * 24 * 3600
MAX_NESTING = 64
MAX_FILES = 1000
MAX_DETAILS = 50
MAX_NAME_BYTES = 255
MAX_FOLDERS = 7
MAX_UNKNOWN = 50

_EXPORT = "In ComfyUI, use File → Export (API) and send the content of that file as `workflow`."


class _Problems:
    """Collects problems, so that a caller sees all of them at once."""

    def __init__(self) -> None:
        self.details: list[Detail] = []

    def add(self, path: str, message: str) -> None:
        """Note a problem; with the last that is told, the search for more ends."""
        self.details.append({"path": path, "message": message})
        if len(self.details) == MAX_DETAILS:
            raise self.error()

    def error(self) -> JobError:
        """Make the error that ends the job: INVALID_WORKFLOW if nothing else is wrong."""
        kind = InvalidWorkflow if all(map(_in_workflow, self.details)) else InvalidRequest
        first = self.details[0]
        more = len(self.details) - 1
        message = f"{first['path']}: {first['message']}"
        if more:
            least = "at least " if len(self.details) == MAX_DETAILS else ""
            message += f" (and {least}{more} more problem{'s' if more > 1 else ''}, see `details`)"
        return kind(message, self.details)


def _in_workflow(problem: Detail) -> bool:
    path: str = problem["path"]
    return path == "workflow" or path.startswith("workflow.")


def parse(raw: Mapping[str, Any]) -> Job:
    """Check a job as the SDK hands it over: `{"id": ..., "input": ..., "s3Config"?: ...}`.

    `input` may also be the same object as a JSON text, as the existing worker allows. Unknown
    fields of `input` are ignored, so that requests written for other workers go on working.

    Raises:
        InvalidWorkflow: `workflow` is the only thing wrong.
        InvalidRequest: anything else; `details` has all problems, at most `MAX_DETAILS`.
    """
    problems = _Problems()
    job_id = raw.get("id")
    sent = _input_object(raw.get("input"))
    job = Job(
        id=job_id if isinstance(job_id, str) else "",
        workflow=_workflow(sent.get("workflow"), problems),
        files=tuple(_files(sent, problems)),
        comfy_org_api_key=_key(sent, problems),
        output=_output(sent.get("output"), problems),
        timeout_s=_timeout(sent.get("timeout_s"), problems),
        s3_config=_s3_config(raw.get("s3Config"), problems),
    )
    _misspelt(sent, problems)
    if problems.details:
        raise problems.error()
    return job


def _input_object(sent: Any) -> dict[str, Any]:
    if isinstance(sent, str):
        try:
            sent = json.loads(sent)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest.at("input", f"is a text that is not JSON: {error}") from None
    if sent is None:
        raise InvalidRequest.at("input", 'is missing. Send {"input": {"workflow": {...}}}.')
    if not isinstance(sent, dict):
        raise InvalidRequest.at("input", f"must be an object with `workflow`, not {_kind(sent)}")
    return sent


def _workflow(sent: Any, problems: _Problems) -> Workflow:
    if sent is None:
        problems.add("workflow", f"is missing. {_EXPORT}")
    elif not isinstance(sent, dict):
        problems.add("workflow", f"must be an object, not {_kind(sent)}. {_EXPORT}")
    elif isinstance(sent.get("nodes"), list):
        problems.add(
            "workflow", f"is in the format of ComfyUI's editor, which cannot run. {_EXPORT}"
        )
    elif isinstance(sent.get("prompt"), dict) and "class_type" not in sent["prompt"]:
        problems.add("workflow", "holds the nodes under `prompt`: send that object as `workflow`.")
    elif not sent:
        problems.add("workflow", f"has no nodes. {_EXPORT}")
    else:
        for node_id, node in sent.items():
            _node(node_id, node, problems)
        if not problems.details:
            _values(sent, problems)
        return sent
    return {}


def _node(node_id: str, node: Any, problems: _Problems) -> None:
    path = f"workflow.{_cut(node_id)}"
    if not isinstance(node, dict):
        problems.add(path, f"must be an object with `class_type` and `inputs`, not {_kind(node)}")
        return
    class_type = node.get("class_type")
    if not isinstance(class_type, str) or not class_type:
        problems.add(f"{path}.class_type", "must be the name of a node class")
    if not isinstance(node.get("inputs"), dict):
        problems.add(f"{path}.inputs", "must be an object (empty if the node has no inputs)")


def _values(workflow: Workflow, problems: _Problems) -> None:
    """Find what JSON cannot carry to ComfyUI: NaN, infinity, nesting without end."""
    # Paths are made for problems only: a long key above many values would be copied for each.
    stack: list[tuple[tuple[str | int, ...], dict[str, Any] | list[Any]]] = [((), workflow)]
    while stack:
        above, container = stack.pop()
        for key, value in (
            container.items() if isinstance(container, dict) else enumerate(container)
        ):
            if isinstance(value, float) and not math.isfinite(value):
                problems.add(_path(*above, key), f"must be a finite number, not {value}")
            elif isinstance(value, (dict, list)):
                if len(above) + 1 == MAX_NESTING:
                    problems.add(
                        _path(*above, key), f"is nested more than {MAX_NESTING} levels deep"
                    )
                    return
                stack.append(((*above, key), value))


def _path(*keys: str | int) -> str:
    return ".".join(("workflow", *(_cut(str(key)) for key in keys)))


def _files(sent: dict[str, Any], problems: _Problems) -> Iterator[InputFile]:
    seen: dict[str, str] = {}
    for group, field in (("images", "image"), ("files", "data")):
        entries = sent.get(group)
        if entries is None:
            continue
        if not isinstance(entries, list):
            problems.add(group, f"must be a list of objects with `name` and `{field}`")
            continue
        if len(entries) > MAX_FILES:
            problems.add(group, f"has {len(entries)} entries; at most {MAX_FILES} are taken")
            continue
        for index, entry in enumerate(entries):
            path = f"{group}[{index}]"
            if not isinstance(entry, dict):
                problems.add(path, f"must be an object with `name` and `{field}`")
                continue
            named = _name(path, entry.get("name"), seen, problems)
            source = entry.get(field)
            if not isinstance(source, str) or not source.strip():
                problems.add(f"{path}.{field}", "must be base64, a data URI or an http(s) URL")
            elif named is not None:
                # `field` is one of the two literals above, which a type checker cannot follow.
                yield InputFile(path, field, named, source)  # type: ignore[arg-type]


def _name(path: str, name: Any, seen: dict[str, str], problems: _Problems) -> str | None:
    path = f"{path}.name"
    if not isinstance(name, str) or not name:
        problems.add(path, "must be the file's name, as the workflow refers to it")
        return None
    fault = _name_fault(name)
    if fault:
        problems.add(path, f"{fault}: {_cut(name)}")
        return None
    if name in seen:
        problems.add(path, f"is the same as {seen[name]}: {_cut(name)}")
        return None
    for other, place in seen.items():
        if name.startswith(f"{other}/") or other.startswith(f"{name}/"):
            problems.add(path, f"cannot be both a file and the folder of one, see {place}")
            return None
    seen[name] = path
    return name


def _name_fault(name: str) -> str | None:
    parts = name.split("/", MAX_FOLDERS + 1)
    if name.startswith("/") or name[1:2] == ":":
        return "must be a relative name, not an absolute path"
    if any(part in {"", ".", ".."} for part in parts) or "\\" in name or '"' in name:
        return "must be a plain name or folder/name, without `..`, `.`, backslashes or quotes"
    sizes = [len(part.encode("utf-8", "surrogatepass")) for part in parts]
    if len(parts) > MAX_FOLDERS + 1 or max(sizes) > MAX_NAME_BYTES:
        return f"must have at most {MAX_NAME_BYTES} bytes in at most {MAX_FOLDERS} folders"
    # Control characters, lone surrogates, line ends; narrow spaces of screenshots' names are fine.
    if any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in name):
        return "must not have control characters"
    if name.endswith(("[input]", "[output]", "[temp]")):
        return "must not end in the name of one of ComfyUI's folders"
    return None


def _key(sent: dict[str, Any], problems: _Problems) -> Secret | None:
    # The existing worker's documentation had the second name, its code the first.
    for name in ("comfy_org_api_key", "api_key_comfy_org"):
        key = sent.get(name)
        if isinstance(key, str) and key:
            return Secret(key)
        if key is not None and key != "":
            problems.add(name, f"must be a text, not {_kind(key)}")
    return None


def _timeout(sent: Any, problems: _Problems) -> float | None:
    if sent is None:
        return None
    if isinstance(sent, (int, float)) and not isinstance(sent, bool) and 0 < sent <= MAX_TIMEOUT_S:
        return float(sent)
    problems.add("timeout_s", f"must be a number of seconds above 0, at most {MAX_TIMEOUT_S}")
    return None


def _output(sent: Any, problems: _Problems) -> OutputOptions:
    if sent is None:
        return OutputOptions()
    if not isinstance(sent, dict):
        problems.add("output", f"must be an object, not {_kind(sent)}")
        return OutputOptions()
    for name in sent:
        if name not in OUTPUT_FIELDS:
            known = ", ".join(OUTPUT_FIELDS)
            problems.add(f"output.{_cut(name)}", f"is unknown; the fields are {known}")
    delivery = _option(sent, "delivery", ("base64", "s3"), problems)
    image_format = _option(sent, "format", ("png", "jpeg", "webp"), problems)
    quality = 90 if sent.get("quality") is None else sent["quality"]
    if not isinstance(quality, int) or isinstance(quality, bool) or not 1 <= quality <= 100:
        problems.add("output.quality", "must be a whole number from 1 to 100")
    metadata = True if sent.get("metadata") is None else sent["metadata"]
    if not isinstance(metadata, bool):
        problems.add("output.metadata", "must be true or false")
    # A wrong value never gets further: the problem above ends the job.
    return OutputOptions(delivery, image_format, quality, metadata)  # type: ignore[arg-type]


def _option(
    sent: dict[str, Any], name: str, options: tuple[str, ...], problems: _Problems
) -> str | None:
    value = sent.get(name)
    if value is None:
        return None
    word = value.lower() if isinstance(value, str) else None
    word = "jpeg" if word == "jpg" else word
    if word in options:
        return word
    received = _cut(value) if isinstance(value, str) else _kind(value)
    problems.add(f"output.{name}", f"must be one of {', '.join(options)}, not {received}")
    return None


def _s3_config(sent: Any, problems: _Problems) -> S3Config | None:
    if sent is None or sent == {}:
        return None
    if not isinstance(sent, dict):
        problems.add("s3Config", f"must be an object, not {_kind(sent)}")
        return None
    found = len(problems.details)
    values = {name: sent.get(name) or "" for name in S3_FIELDS}
    for name in S3_FIELDS:
        if not isinstance(values[name], str):
            problems.add(f"s3Config.{name}", f"must be a text, not {_kind(values[name])}")
        elif values[name] == "" and name != "bucketName":
            problems.add(f"s3Config.{name}", "is missing; the caller's own bucket needs it")
    if len(problems.details) > found:
        return None
    try:
        endpoint_url = http_url(values["endpointUrl"])
    except ValueError as error:
        problems.add("s3Config.endpointUrl", str(error))
        return None
    return S3Config(
        endpoint_url=endpoint_url,
        access_id=Secret(values["accessId"]),
        access_secret=Secret(values["accessSecret"]),
        bucket_name=values["bucketName"] or None,
    )


def _misspelt(sent: dict[str, Any], problems: _Problems) -> None:
    """Tell `image` from a field of somebody else's: only close matches are errors."""
    unknown = (name for name in sent if name not in INPUT_FIELDS)
    for name in islice(unknown, MAX_UNKNOWN):
        close = difflib.get_close_matches(_cut(name), INPUT_FIELDS, n=1, cutoff=0.8)
        if close and close[0] not in sent:
            problems.add(_cut(name), f"is unknown; did you mean `{close[0]}`?")


def _kind(value: Any) -> str:
    names = {bool: "a boolean", str: "a text", int: "a number", float: "a number", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")


def _cut(text: str) -> str:
    """Make a caller's text fit for a message: short, and without unprintable characters."""
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)
