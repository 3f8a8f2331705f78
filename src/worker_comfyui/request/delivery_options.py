"""How the caller wants the results: `input.output` and `s3Config`."""

from __future__ import annotations

from typing import Any

from worker_comfyui.config import Secret, http_url
from worker_comfyui.job import OutputOptions, S3Config, UploadTargets
from worker_comfyui.media.media_types import KINDS
from worker_comfyui.request.problems import Problems, kind_of
from worker_comfyui.wording import cut

SWITCHES = {"metadata": True, "previews": False, "workflow": False, "live": False}
OUTPUT_FIELDS = ("delivery", "format", "quality", "upload", *SWITCHES)
MAX_TARGETS = 100
MAX_URL = 8_000
S3_FIELDS = ("endpointUrl", "accessId", "accessSecret", "bucketName")


def output_options(sent: Any, problems: Problems) -> OutputOptions:
    """Read `input.output`."""
    if sent is None:
        return OutputOptions()
    if not isinstance(sent, dict):
        problems.add("output", f"must be an object, not {kind_of(sent)}")
        return OutputOptions()
    for name in sent:
        if name not in OUTPUT_FIELDS:
            known = ", ".join(OUTPUT_FIELDS)
            problems.add(f"output.{cut(name)}", f"is unknown; the fields are {known}")
    delivery = _option(sent, "delivery", ("base64", "s3"), problems)
    image_format = _option(sent, "format", ("png", "jpeg", "webp"), problems)
    quality = 90 if sent.get("quality") is None else sent["quality"]
    if not isinstance(quality, int) or isinstance(quality, bool) or not 1 <= quality <= 100:
        problems.add("output.quality", "must be a whole number from 1 to 100")
    switches = {name: _switch(sent, name, default, problems) for name, default in SWITCHES.items()}
    # A wrong value never gets further: the problem above ends the job.
    upload = _upload(sent.get("upload"), problems)
    return OutputOptions(
        delivery,  # type: ignore[arg-type]
        image_format,  # type: ignore[arg-type]
        quality,
        upload=upload,
        **switches,
    )


def is_output_option(name: str, value: Any) -> bool:
    """Tell whether `output` takes it: a field of that name, and such a value."""
    problems = Problems()
    output_options({name: value}, problems)
    return value is not None and not problems.details


def _switch(sent: dict[str, Any], name: str, default: bool, problems: Problems) -> bool:
    value = sent.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        problems.add(f"output.{name}", "must be true or false")
    return value is True


def _upload(sent: Any, problems: Problems) -> UploadTargets:
    """Read `output.upload`: for a kind one address or several, for a file's name one."""
    if sent is None:
        return UploadTargets()
    if not isinstance(sent, dict) or len(sent) > MAX_TARGETS:
        problems.add("output.upload", f"must be an object of at most {MAX_TARGETS} addresses")
        return UploadTargets()
    by_name: dict[str, str] = {}
    by_kind: dict[str, tuple[str, ...]] = {}
    for key, value in sent.items():
        path = f"output.upload.{cut(key)}"
        if key in KINDS:
            urls = value if isinstance(value, list) else [value]
            if len(urls) > MAX_TARGETS:
                problems.add(path, f"has more than {MAX_TARGETS} addresses")
                continue
            by_kind[key] = tuple(_address(path, url, problems) for url in urls)
        else:
            by_name[key] = _address(path, value, problems)
    return UploadTargets(by_name, by_kind)


def _address(path: str, url: Any, problems: Problems) -> str:
    try:
        http_url(url if isinstance(url, str) and len(url) <= MAX_URL else "")
    except ValueError:
        problems.add(path, "must be an address like https://host/path?signature, for a PUT")
        return ""
    return str(url)


def _option(
    sent: dict[str, Any], name: str, options: tuple[str, ...], problems: Problems
) -> str | None:
    value = sent.get(name)
    if value is None:
        return None
    word = value.lower() if isinstance(value, str) else None
    word = "jpeg" if word == "jpg" else word  # as files are called
    if word in options:
        return word
    received = cut(value) if isinstance(value, str) else kind_of(value)
    problems.add(f"output.{name}", f"must be one of {', '.join(options)}, not {received}")
    return None


def s3_config(sent: Any, problems: Problems) -> S3Config | None:
    """Read the job's `s3Config`; None: there is none."""
    if sent is None or sent == {}:
        return None
    if not isinstance(sent, dict):
        problems.add("s3Config", f"must be an object, not {kind_of(sent)}")
        return None
    found = len(problems.details)
    values = {name: sent.get(name) or "" for name in S3_FIELDS}
    for name in S3_FIELDS:
        if not isinstance(values[name], str):
            problems.add(f"s3Config.{name}", f"must be a text, not {kind_of(values[name])}")
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
