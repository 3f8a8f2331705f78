"""The worker's settings: the one place that reads environment variables."""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from worker_comfyui.errors import ConfigurationError
from worker_comfyui.hosts.bucket_location import Location, locate

MEGA = 1_000_000
GIGA = 1_000_000_000
"""Settings in MB and GB count as disks do, and as RunPod's limits: in powers of ten."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that masks itself wherever it is printed; `value` is the text."""

    value: str

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__


def boolean(text: str) -> bool:
    """`true`, `1`, `yes`, `on` and their opposites, in any case."""
    word = text.lower()
    if word in {"true", "1", "yes", "on"}:
        return True
    if word in {"false", "0", "no", "off"}:
        return False
    raise ValueError("must be true or false")


def number(minimum: float, maximum: float = float("inf")) -> Callable[[str], float]:
    """Make a parser of numbers within the bounds."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError("must be a number") from None
        if not math.isfinite(value):  # `nan` would pass any comparison below
            raise ValueError("must be a finite number")
        if not minimum <= value <= maximum:
            upper = "" if maximum == float("inf") else f" and at most {maximum:g}"
            raise ValueError(f"must be at least {minimum:g}{upper}")
        return value

    return parse


def integer(minimum: int, maximum: float = float("inf")) -> Callable[[str], int]:
    """Make a parser of whole numbers within the bounds."""
    parse_number = number(minimum, maximum)

    def parse(text: str) -> int:
        value = parse_number(text)
        if value != int(value):  # `1e3` and `5.0` are whole
            raise ValueError("must be a whole number")
        return int(value)

    return parse


def choice(*options: str) -> Callable[[str], str]:
    """Make a parser that takes one of the options, in any case."""

    def parse(text: str) -> str:
        for option in options:
            if text.lower() == option.lower():
                return option
        raise ValueError(f"must be one of {', '.join(options)}")

    return parse


def log_level(*options: str) -> Callable[[str], str]:
    """Make a parser of the options, which also takes `warn`, as many programs call it."""
    parse_choice = choice(*options)

    def parse(text: str) -> str:
        return parse_choice("WARNING" if text.lower() == "warn" else text)

    return parse


def names(text: str) -> tuple[str, ...]:
    """Split names at commas and spaces."""
    return tuple(text.replace(",", " ").split())


def http_url(text: str) -> str:
    """Take an absolute http(s) URL without a password, and without the slash at its end."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    # A password would come back in messages and results.
    if not valid or "@" in parts.netloc or not text.isprintable() or " " in text:
        raise ValueError("must be an address like https://host/path")
    return text.rstrip("/")


def host_and_port(text: str) -> str:
    """Take `host:port`, without a scheme or a path."""
    try:
        parts = urlsplit(f"//{text}")
        valid = text == parts.netloc and bool(parts.hostname) and bool(parts.port)
    except ValueError:
        valid = False
    if not valid or "@" in text or " " in text:
        raise ValueError("must be host:port, like 127.0.0.1:8188")
    return text


def host_names(text: str) -> frozenset[str]:
    """Take host names with commas between them; `*` is any host."""
    names = frozenset(name.strip().lower() for name in text.split(",") if name.strip())
    for name in names:
        if name != "*" and not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name):
            raise ValueError("must be host names like huggingface.co, with commas between them")
    return names


def model_names(text: str) -> tuple[str, ...]:
    """Take names of files with commas between them."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name.startswith("/") or ".." in name.split("/") or not name.isprintable():
            raise ValueError(
                "must be names like checkpoints/model.safetensors, with commas between"
            )
    return names


def folders(text: str) -> tuple[Path, ...]:
    """Take paths, with `:` between as in PATH."""
    return tuple(Path(part) for part in text.split(os.pathsep) if part)


def words(text: str) -> tuple[str, ...]:
    """Split a command line as a shell would."""
    try:
        return tuple(shlex.split(text))
    except ValueError:
        raise ValueError("must be words, quoted as in a shell") from None


def variable(
    name: str,
    parse: Callable[[str], Any],
    description: str,
    *,
    default: Any = None,
) -> Any:
    """Declare a setting that is read from the environment variable `name`.

    An empty variable counts as unset: the platform's form cannot leave one out.
    """
    return field(
        default=default, metadata={"name": name, "parse": parse, "description": description}
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be configured, checked; see docs/configuration.md for the whole story."""

    # ComfyUI
    comfyui_path: Path = variable(
        "COMFYUI_PATH",
        Path,
        "ComfyUI's folder: the one with `main.py`.",
        default=Path("/comfyui"),
    )
    comfyui_python: str | None = variable(
        "COMFYUI_PYTHON",
        str,
        "The Python that runs ComfyUI; unset: one in ComfyUI's folder, else the worker's own.",
    )
    comfyui_args: tuple[str, ...] = variable(
        "COMFYUI_ARGS", words, "More flags for ComfyUI, as in a shell.", default=()
    )
    comfy_host: str | None = variable(
        "COMFY_HOST",
        host_and_port,
        "`host:port` of a ComfyUI that runs already; the worker then starts none.",
    )
    comfy_env_pass: tuple[str, ...] = variable(
        "COMFY_ENV_PASS",
        names,
        "Variables that ComfyUI gets although the worker keeps such ones for itself: HF_TOKEN.",
        default=(),
    )
    comfy_log_level: str = variable(
        "COMFY_LOG_LEVEL",
        log_level("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        "How much ComfyUI logs.",
        default="INFO",
    )
    embed_metadata: bool = variable(
        "EMBED_METADATA",
        boolean,
        "Let ComfyUI embed the workflow in the files that it saves.",
        default=False,
    )
    comfy_start_timeout_s: float = variable(
        "COMFY_START_TIMEOUT_S",
        number(1),
        "Seconds until ComfyUI must be ready; a process that ends is noticed at once.",
        default=600.0,
    )
    comfy_api_available_interval_ms: int = variable(
        "COMFY_API_AVAILABLE_INTERVAL_MS",
        integer(1),
        "Milliseconds between two looks whether ComfyUI is ready.",
        default=50,
    )
    comfy_api_available_max_retries: int = variable(
        "COMFY_API_AVAILABLE_MAX_RETRIES",
        integer(0),
        "Looks until ComfyUI must be ready; 0: as many as COMFY_START_TIMEOUT_S allows.",
        default=0,
    )
    comfy_hang_timeout_s: float = variable(
        "COMFY_HANG_TIMEOUT_S",
        number(1),
        "Seconds without any HTTP answer after which ComfyUI counts as frozen and is restarted.",
        default=120.0,
    )
    comfy_interrupt_timeout_s: float = variable(
        "COMFY_INTERRUPT_TIMEOUT_S",
        number(0),
        "Seconds for ComfyUI to obey an interrupt; then it is restarted.",
        default=30.0,
    )
    comfy_max_restarts: int = variable(
        "COMFY_MAX_RESTARTS",
        integer(0),
        "Restarts of ComfyUI without a finished job in between; then the worker retires.",
        default=3,
    )
    comfy_org_api_key: Secret | None = variable(
        "COMFY_ORG_API_KEY",
        Secret,
        "Comfy.org key for API nodes; a request's `comfy_org_api_key` goes before it.",
    )
    websocket_reconnect_attempts: int = variable(
        "WEBSOCKET_RECONNECT_ATTEMPTS",
        integer(0),
        "Attempts to open the websocket again after it dropped; then history alone is asked.",
        default=5,
    )
    websocket_reconnect_delay_s: float = variable(
        "WEBSOCKET_RECONNECT_DELAY_S",
        number(0),
        "Seconds between two attempts; history is asked meanwhile.",
        default=3.0,
    )
    websocket_trace: bool = variable(
        "WEBSOCKET_TRACE", boolean, "Log every websocket frame.", default=False
    )
    poll_interval_s: float = variable(
        "COMFY_POLL_INTERVAL_S",
        number(0.05),
        "Seconds without an event after which ComfyUI's history is asked.",
        default=5.0,
    )
    warmup_workflow: Path | None = variable(
        "WARMUP_WORKFLOW",
        Path,
        "A workflow or request file that runs once before the first job is taken.",
    )

    # Jobs
    worker_concurrency: int = variable(
        "WORKER_CONCURRENCY",
        integer(1, 100),
        "Jobs that the worker holds at once, beside those whose results are on their way. ComfyUI "
        "runs one at a time; above 1, the next one is already here when the GPU comes free.",
        default=1,
    )
    job_timeout_s: float = variable(
        "JOB_TIMEOUT_S",
        number(1),
        "Deadline of a job whose request has no `timeout_s`, in seconds.",
        default=86400.0,
    )
    refresh_worker: bool = variable(
        "REFRESH_WORKER", boolean, "Replace the worker after every job.", default=False
    )
    serve_api_locally: bool = variable(
        "SERVE_API_LOCALLY",
        boolean,
        "Serve an API on port 8000 instead of taking jobs from the platform.",
        default=False,
    )
    max_input_mb: float = variable(
        "MAX_INPUT_MB",
        number(0.001),
        "Largest input file, in MB (1,000,000 bytes), however it is sent.",
        default=100.0,
    )
    max_inputs_mb: float = variable(
        "MAX_INPUTS_MB",
        number(0.001),
        "All input files of a job together, in MB.",
        default=1000.0,
    )
    max_input_megapixels: float = variable(
        "MAX_INPUT_MEGAPIXELS",
        number(0.001),
        "Largest input image in any field, in millions of pixels (all frames together).",
        default=300.0,
    )
    input_url_timeout_s: float = variable(
        "INPUT_URL_TIMEOUT_S", number(0.1), "Seconds for the download of one URL.", default=120.0
    )
    allow_private_input_urls: bool = variable(
        "ALLOW_PRIVATE_INPUT_URLS",
        boolean,
        "Let input URLs name private and loopback addresses. For local use only.",
        default=False,
    )

    workflows_path: tuple[Path, ...] | None = variable(
        "WORKFLOWS_PATH",
        folders,
        "Folders of stored workflows, with `:` between; unset: `/workflows`, then `workflows` on "
        "the network volume.",
    )

    # Models
    model_catalog: str | None = variable(
        "MODEL_CATALOG",
        str,
        "Where models can be had that workflows name: a YAML or JSON file, or its content itself.",
    )
    allow_model_downloads: bool = variable(
        "ALLOW_MODEL_DOWNLOADS",
        boolean,
        "Fetch models whose URLs a request or a workflow brings, within the limits below.",
        default=False,
    )
    model_hosts: frozenset[str] = variable(
        "MODEL_HOSTS",
        host_names,
        "Hosts that requests and workflows may name, with commas between; `*`: any public one.",
        default=frozenset(("huggingface.co", "civitai.com")),
    )
    model_max_gb: float = variable(
        "MODEL_MAX_GB",
        number(0.001),
        "Largest model that requests and workflows may have fetched, in GB (1,000,000,000 bytes).",
        default=50.0,
    )
    model_cache_gb: float | None = variable(
        "MODEL_CACHE_GB",
        number(0.001),
        "GB that fetched models may take together; the least recently used go first.",
    )
    model_store_path: Path | None = variable(
        "MODEL_STORE_PATH",
        Path,
        "Where fetched models are kept; unset: on the network volume, else the container's disk.",
    )
    hf_token: Secret | None = variable(
        "HF_TOKEN", Secret, "Token for gated models of Hugging Face; sent to its own host alone."
    )
    hf_endpoint: str = variable(
        "HF_ENDPOINT",
        http_url,
        "A mirror of Hugging Face to ask in its place.",
        default="https://huggingface.co",
    )
    civitai_token: Secret | None = variable(
        "CIVITAI_TOKEN", Secret, "API key of Civitai; sent to its own host alone."
    )
    civitai_endpoint: str = variable(
        "CIVITAI_ENDPOINT",
        http_url,
        "A mirror of Civitai to ask in its place.",
        default="https://civitai.com",
    )
    preload_models: tuple[str, ...] = variable(
        "PRELOAD_MODELS",
        model_names,
        "Models to read into memory while ComfyUI starts: names or folder/name, with commas.",
        default=(),
    )
    allow_model_jobs: bool = variable(
        "ALLOW_MODEL_JOBS",
        boolean,
        "Take jobs that list, check, fetch and delete fetched models.",
        default=False,
    )

    # Results
    max_result_mb: float | None = variable(
        "MAX_RESULT_MB",
        number(0.001),
        "Largest result that is posted, in MB; unset: the platform's own limits, "
        "20 for `/runsync` and 10 for `/run`.",
    )
    bucket_endpoint_url: str | None = variable(
        "BUCKET_ENDPOINT_URL",
        http_url,
        "Address of the S3 service or bucket; when set, files are uploaded.",
    )
    bucket_access_key_id: Secret | None = variable(
        "BUCKET_ACCESS_KEY_ID", Secret, "Access key of the bucket."
    )
    bucket_secret_access_key: Secret | None = variable(
        "BUCKET_SECRET_ACCESS_KEY", Secret, "Secret key of the bucket."
    )
    bucket_name: str | None = variable(
        "BUCKET_NAME", str, "Name of the bucket, where the address does not contain it."
    )
    bucket_region: str | None = variable(
        "BUCKET_REGION", str, "Region of the bucket, where the address does not contain it."
    )
    bucket_prefix: str = variable(
        "BUCKET_PREFIX", str, "Folder in the bucket, before the job's id.", default=""
    )
    bucket_url_expiry_s: int = variable(
        "BUCKET_URL_EXPIRY_S",
        integer(1, 604800),
        "Seconds for which a presigned URL is valid; 604800 (7 days) is the most that S3 allows.",
        default=604800,
    )
    bucket_public_url: str | None = variable(
        "BUCKET_PUBLIC_URL",
        http_url,
        "Base address under which the bucket is public; URLs are then permanent, not presigned.",
    )

    # Operation
    runpod_volume_path: Path = variable(
        "RUNPOD_VOLUME_PATH",
        Path,
        "Where the network volume is mounted; its `models` folder is searched.",
        default=Path("/runpod-volume"),
    )
    network_volume_debug: bool = variable(
        "NETWORK_VOLUME_DEBUG",
        boolean,
        "Report at the start, and when a model is missing, what lies on the network volume.",
        default=False,
    )
    log_level: str = variable(
        "LOG_LEVEL",
        log_level("DEBUG", "INFO", "WARNING", "ERROR"),
        "How much the worker logs.",
        default="INFO",
    )
    log_format: str = variable(
        "LOG_FORMAT",
        choice("auto", "json", "text"),
        "`json`: one object a line; `text`: for people; `auto`: text on a terminal, else json.",
        default="auto",
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read and check all settings.

        Raises:
            ConfigurationError: with every problem, each naming its variable.
        """
        settings, problems = cls.read(environ)
        if problems:
            raise ConfigurationError("; ".join(problems))
        return settings

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
        """Read all settings; return them with every problem. What is wrong has its default."""
        values: dict[str, Any] = {}
        problems: list[str] = []
        present: set[str] = set()
        for setting in fields(cls):
            name = setting.metadata["name"]
            text = environ.get(name, "").strip()
            if not text:
                continue
            present.add(name)
            try:
                values[setting.name] = setting.metadata["parse"](text)
            except ValueError as error:
                problems.append(f"{name} {error}{_shown(setting, text)}")
        problems += _contradictions(present)
        settings = cls(**values)
        try:
            settings.bucket_location()
        except ValueError as error:
            problems.append(f"BUCKET_ENDPOINT_URL {error}")
        return settings, problems

    def bucket_location(self) -> Location | None:
        """Find out where the worker's bucket is; None: there is none.

        Raises:
            ValueError: the address and the name do not lead to one bucket.
        """
        if self.bucket_endpoint_url is None:
            return None
        return locate(
            self.bucket_endpoint_url, self.bucket_name, self.bucket_region, called="BUCKET_NAME"
        )

    def workflow_folders(self) -> tuple[Path, ...]:
        """Return where stored workflows are; the first folder that has a name wins."""
        if self.workflows_path is not None:
            return self.workflows_path
        return Path("/workflows"), self.runpod_volume_path / "workflows"

    def secrets(self) -> list[str]:
        """List the texts that must never be printed."""
        return [v.value for f in fields(self) if isinstance(v := getattr(self, f.name), Secret)]


PLATFORM_KEY = "RUNPOD_AI_API_KEY"
"""The platform gives it to the worker, to report results with."""


def secret_variables() -> list[str]:
    """Name the variables that are for the worker alone, not for the programs that it starts."""
    return [f.metadata["name"] for f in fields(Settings) if f.metadata["parse"] is Secret] + [
        PLATFORM_KEY
    ]


def _shown(setting: Field[Any], text: str) -> str:
    # A key may have been pasted into the wrong variable, or a password into an address.
    is_private = setting.metadata["parse"] is Secret or "@" in text
    return "" if is_private else f", not {text!r}"


def _contradictions(present: set[str]) -> list[str]:
    """Find what is missing for uploads: some variables of the bucket alone are no bucket."""
    needed = ("BUCKET_ENDPOINT_URL", "BUCKET_ACCESS_KEY_ID", "BUCKET_SECRET_ACCESS_KEY")
    # The existing worker does nothing with keys alone, and neither does this one.
    telling = ("BUCKET_ENDPOINT_URL", "BUCKET_NAME", "BUCKET_PUBLIC_URL")
    given = [name for name in telling if name in present]
    missing = [name for name in needed if name not in present]
    if given and missing:
        return [f"{' and '.join(missing)} must be set as well, since {given[0]} is"]
    return []
