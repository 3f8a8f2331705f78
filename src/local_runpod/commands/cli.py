"""The commands: `serve`, `run` and `submit`, called by the scripts of the same names."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from local_runpod.background import running_platform
from local_runpod.client.display import say, short_path
from local_runpod.client.endpoint import ClientError, EndpointClient, endpoint_url
from local_runpod.client.request_file import RequestFileError, attach, load_request
from local_runpod.client.submitting import INTERRUPTED, follow_and_save, submit_and_save
from local_runpod.server import PlatformSettings, StartError
from local_runpod.workers.environment import describe_comfyui, worker_environment
from local_runpod.workers.pool import WorkerPlan

ROOT = Path(__file__).resolve().parents[3]
TEST_INPUT = ROOT / "test_input.json"
DEFAULT_ENDPOINT = "http://127.0.0.1:8000"
USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit code: 0 for success, 1 for a failed job or start, 2 for a request that cannot be
        sent, 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    _stop_on_signals()
    try:
        return int(options.command(options))
    except StartError as error:
        say(str(error))
        return 1
    except (RequestFileError, ClientError) as error:
        say(str(error))
        return USAGE_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="local_runpod", description="A RunPod on this machine.")
    commands = parser.add_subparsers(required=True, metavar="serve|run|submit")

    serve = commands.add_parser("serve", help="serve the hosted API with real workers")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    serve.add_argument("--port", type=int, default=8000, help="port to listen on (%(default)s)")
    serve.add_argument("--workers", type=_count, default=1, help="worker processes (%(default)s)")
    serve.add_argument(
        "--api-key",
        action="append",
        metavar="KEY",
        help="ask clients for this key; may be repeated (default: LOCAL_RUNPOD_API_KEY, or none)",
    )
    _add_worker_option(serve)
    serve.set_defaults(command=_serve)

    run = commands.add_parser("run", help="run one request on a platform of its own")
    run.add_argument("request", nargs="?", type=Path, default=TEST_INPUT)
    run.add_argument("--output", type=Path, default=ROOT / "output", help="folder for the files")
    run.add_argument("-v", "--verbose", action="store_true", help="show the worker's log")
    _add_worker_option(run)
    run.set_defaults(command=_run)

    submit = commands.add_parser("submit", help="send a request or workflow to an endpoint")
    submit.add_argument(
        "request", nargs="?", type=Path, help="a request, or a workflow (API format)"
    )
    for name, what in (("image", "an input image"), ("file", "any other input file")):
        submit.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="[NAME=]PATH",
            help=f"attach {what}; may be repeated",
        )
    submit.add_argument(
        "--endpoint",
        default=os.environ.get("RUNPOD_ENDPOINT", DEFAULT_ENDPOINT),
        metavar="URL|ID",
        help=f"a URL, or a RunPod endpoint's id (default: RUNPOD_ENDPOINT, or {DEFAULT_ENDPOINT})",
    )
    submit.add_argument("--api-key", metavar="KEY", help="default: RUNPOD_API_KEY")
    submit.add_argument(
        "--async", dest="detached", action="store_true", help="print the job's id and don't wait"
    )
    submit.add_argument("--job", metavar="ID", help="follow a job that was submitted with --async")
    submit.add_argument("--output", type=Path, default=Path("output"), help="folder for the files")
    submit.set_defaults(command=_submit)
    return parser


def _add_worker_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--worker",
        type=shlex.split,
        default=[sys.executable, "handler.py"],
        metavar="COMMAND",
        help="what starts a worker, in the project's folder (default: handler.py)",
    )


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _serve(options: argparse.Namespace) -> int:
    keys = options.api_key or os.environ.get("LOCAL_RUNPOD_API_KEY", "").split()
    several = options.workers > 1
    if several and os.environ.get("COMFY_HOST"):
        say(
            "Several workers cannot share the ComfyUI at COMFY_HOST: they would overwrite each "
            "other's input files. Use --workers 1, or COMFYUI_PATH instead."
        )
        return USAGE_ERROR
    _log_to(sys.stdout)
    settings = PlatformSettings(
        plan=_plan(options, lambda name, line: say(f"{name} | {line}"), several=several),
        workers=options.workers,
        host=options.host,
        port=options.port,
        api_keys=tuple(keys),
    )
    with running_platform(settings) as platform:
        with contextlib.suppress(KeyboardInterrupt):
            say(f"Starting {_plural(options.workers, 'worker')} ...")
            say(f"ComfyUI: {describe_comfyui(os.environ)}")
            platform.until_ready(starts=3)
            _say_where(platform.url, with_key=bool(keys))
            threading.Event().wait()
        say("Stopping ...")
    return 0


def _run(options: argparse.Namespace) -> int:
    request = load_request(options.request)
    options.output.mkdir(parents=True, exist_ok=True)
    log_path = options.output / "run.log"
    say(f"ComfyUI: {describe_comfyui(os.environ)}")
    with log_path.open("w") as log_file:

        def output(name: str, line: str) -> None:
            log_file.write(f"{name} | {line}\n")
            log_file.flush()
            if options.verbose:
                say(f"{name} | {line}")

        _log_to(log_file)
        settings = PlatformSettings(plan=_plan(options, output))
        try:
            with running_platform(settings) as platform:
                began = time.monotonic()
                say("Starting the worker and ComfyUI ...")
                platform.until_ready()
                say(f"Ready after {time.monotonic() - began:.1f} s.")
                say(f"Running {short_path(options.request)} ...")
                code = submit_and_save(EndpointClient(platform.url), request, options.output)
        except StartError:
            say(f"The whole log is in {short_path(log_path)}")
            raise
    if code:
        say(f"The worker's log is in {short_path(log_path)}")
    else:
        say("Next: ./scripts/run YOUR_REQUEST.json, or ./scripts/serve for an API like RunPod's.")
    return code


def _submit(options: argparse.Namespace) -> int:
    client = EndpointClient(
        endpoint_url(options.endpoint), options.api_key or os.environ.get("RUNPOD_API_KEY")
    )
    if options.job:
        return follow_and_save(client, options.job, options.output)
    if options.request is None:
        raise RequestFileError("Name a request or workflow file: ./scripts/submit test_input.json")
    request = load_request(options.request)
    attach(request, images=options.image, files=options.file)
    if not options.detached:
        return submit_and_save(client, request, options.output)
    job_id = client.submit(request)
    say(f"Submitted: {job_id}")
    say(f"Follow it and save its outputs: ./scripts/submit --endpoint {client.url} --job {job_id}")
    return 0


def _plan(
    options: argparse.Namespace, output: Callable[[str, str], None], *, several: bool = False
) -> WorkerPlan:
    return WorkerPlan(
        command=options.worker,
        folder=ROOT,
        environment=worker_environment(ROOT, os.environ, several=several),
        output=output,
    )


def _say_where(url: str, *, with_key: bool) -> None:
    header = ' -H "Authorization: Bearer $KEY"' if with_key else ""
    request = shlex.quote(f"@{TEST_INPUT}")
    say()
    say(f"Ready: {url}/runsync  {url}/run  {url}/status/ID  {url}/health")
    say(f"The same under {url}/v2/ANY_ID/..., for RunPod's own clients.")
    say()
    say("Try it:")
    say(
        f"  curl -s -X POST {url}/runsync -H 'Content-Type: application/json'{header} "
        f"-d {request} | cut -c 1-400"
    )
    say(f"  ./scripts/submit --endpoint {url} {TEST_INPUT.name}    (saves the pictures)")
    say("Ctrl-C stops everything.")
    say()


def _log_to(stream: TextIO) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("platform | %(message)s"))
    logger = logging.getLogger("local_runpod")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _stop_on_signals() -> None:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP too, and where a shell had SIGINT ignored."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count != 1 else ''}"
