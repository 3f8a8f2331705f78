"""A job as the worker understands it; `request.parse` makes one of what was sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from worker_comfyui.config import Secret
from worker_comfyui.wording import cut

Workflow = dict[str, dict[str, Any]]
"""ComfyUI's API format: `{node id: {"class_type": str, "inputs": {...}, "_meta"?: {...}}}`."""


def is_link(value: Any) -> bool:
    """Tell whether an input is linked to another node's output: `[node id, output number]`."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def wrapped(value: Any) -> Any:
    """Wrap a list that is a value, which ComfyUI would take for a link.

    Source: ComfyUI 0.3.64 execution.py, `validate_inputs` (`__value__`).
    """
    return {"__value__": value} if isinstance(value, list) else value


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text in an input's value, however deep: Load3D has its files in an object."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, Mapping):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def title_of(node: Mapping[str, Any]) -> str | None:
    """Return what a node's author calls it; None: it has no name of its own."""
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, Mapping) else None
    return title if isinstance(title, str) and title else None


def understand_inputs(workflow: Workflow) -> None:
    """Write each input in the one way in which all that follows reads it.

    `[1, 0]` and `["1", "0"]` become `["1", 0]`, where there is a node 1: ComfyUI takes any list of
    two for a link and fails where the types differ. `{"__value__": 5}` becomes 5, as in ComfyUI.
    Source: ComfyUI 0.3.64 execution.py, `validate_inputs`.
    """
    for node in workflow.values():
        inputs = node["inputs"]
        for name, value in inputs.items():
            if isinstance(value, list) and len(value) == 2:
                inputs[name] = _link(value, workflow)
            elif isinstance(value, dict) and "__value__" in value:
                inner = value["__value__"]  # an object may have a `__value__` of its own
                inputs[name] = value if isinstance(inner, (list, dict)) else inner


def _link(value: list[Any], workflow: Workflow) -> list[Any]:
    node_id, number = value
    if isinstance(node_id, int) and not isinstance(node_id, bool):
        node_id = str(node_id)
    # Few digits: Python refuses to read thousands of them, and no node has so many outputs.
    if isinstance(number, str) and number.isascii() and number.isdecimal() and len(number) < 5:
        number = int(number)
    is_number = isinstance(number, int) and not isinstance(number, bool)
    is_one = isinstance(node_id, str) and node_id in workflow and is_number
    return [node_id, number] if is_one else value


Group = Literal["images", "files"]
Field = Literal["image", "data", "url"]
"""Where the content of a file may stand in the request."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file that the workflow's loaders read.

    Attributes:
        place: Its place in the request, for messages: `images[0]` or `files[2]`.
        group: The list that it came in.
        field: The field that has the data, for messages.
        name: The name under which loaders find it: `photo.png` or `folder/photo.png`.
        source: base64, a data URI, or an http(s) URL.
    """

    place: str
    group: Group
    field: Field
    name: str
    source: str


@dataclass(frozen=True, slots=True)
class FetchedInput:
    """A file of the request, on this machine.

    Attributes:
        name: The name under which loaders find it.
        path: Where it is.
        group: The list that it came in.
        sha256: Of its content, in hexadecimal.
        warning: What is not as it should be, a sentence for `errors`; None: nothing.
    """

    name: str
    path: Path
    group: Group
    sha256: str
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class UploadTargets:
    """Addresses to which the caller wants files uploaded by PUT (`output.upload`).

    Attributes:
        by_name: For the file of this name in the result.
        by_kind: For the files of a list of the result (`images`, `videos`, ...), one each.
    """

    by_name: Mapping[str, str] = field(default_factory=dict)
    by_kind: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def places(self) -> Iterator[tuple[str, str]]:
        """Yield each address after its path in the request."""
        for name, url in self.by_name.items():
            yield f"output.upload.{cut(name)}", url
        for kind, urls in self.by_kind.items():
            for index, url in enumerate(urls):
                yield f"output.upload.{kind}[{index}]", url


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How the caller wants the results (`input.output`).

    Attributes:
        delivery: `s3` or `base64`; None: `s3` where a bucket is configured, else `base64`.
        format: Convert still images to this format; None: leave them as ComfyUI saved them.
        quality: 1 to 100, for jpeg and webp.
        upload: Where single files are uploaded, before all other delivery.
        metadata: Keep the workflow where ComfyUI embeds it (EMBED_METADATA) in still images.
        previews: Return also what nodes only show, as PreviewImage does.
        workflow: Return the workflow that ran.
        live: Send previews of samplers with the progress.
    """

    delivery: Literal["base64", "s3"] | None = None
    format: Literal["png", "jpeg", "webp"] | None = None
    quality: int = 90
    metadata: bool = True
    previews: bool = False
    workflow: bool = False
    live: bool = False
    upload: UploadTargets = field(default_factory=UploadTargets)


@dataclass(frozen=True, slots=True)
class S3Config:
    """The caller's own bucket (the job's `s3Config`)."""

    endpoint_url: str
    access_id: Secret
    access_secret: Secret
    bucket_name: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One checked request.

    Attributes:
        id: The platform's job id.
        workflow: In ComfyUI's API format; empty as long as `source` is to be converted.
        files: `images` and `files` of the request, names unique.
        comfy_org_api_key: The caller's key for API nodes.
        output: How the results are delivered.
        timeout_s: The job's own deadline in seconds, or None.
        s3_config: The caller's bucket, or None.
        extra_data: Goes to ComfyUI beside the workflow, as its editor sends it.
        source: What was sent as `workflow`, where it is anything but the API format.
        overrides: Inputs to set, as sent.
        models: Where models can be had, as sent.
        model_job: What to do with the models that the worker keeps, as sent; there is no workflow.
        lists_workflows: Only say which workflows are stored; there is none that runs.
        dry_run: Only say what would run.
        warnings: What is odd about the request, sentences for `errors`.
    """

    id: str
    workflow: Workflow
    files: tuple[InputFile, ...] = ()
    comfy_org_api_key: Secret | None = None
    output: OutputOptions = field(default_factory=OutputOptions)
    timeout_s: float | None = None
    s3_config: S3Config | None = None
    extra_data: dict[str, Any] = field(default_factory=dict)
    source: Any = None
    overrides: Any = None
    models: Any = None
    model_job: dict[str, Any] | None = None
    lists_workflows: bool = False
    dry_run: bool = False
    warnings: tuple[str, ...] = ()
