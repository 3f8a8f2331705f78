"""The commands' options, and their exit codes."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from local_runpod.client.display import note
from local_runpod.client.endpoint import ClientError
from local_runpod.client.request_file import RequestFileError
from local_runpod.client.submitting import INTERRUPTED
from local_runpod.commands import keys
from local_runpod.commands.project import TEST_INPUT
from local_runpod.commands.run import run
from local_runpod.commands.serve import USAGE_ERROR, serve
from local_runpod.commands.submit import DEFAULT_ENDPOINT, submit
from local_runpod.server import StartError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit code: 0 for success, 1 for a failed job or start, 2 for a request that cannot be
        sent, 130 after Ctrl-C.
    """
    if arguments is None:  # started as a program: a test's own arguments stay where they are
        keys.hide(os.environ)
    _write_any_text()
    options = _parse(arguments)
    options.api_key = [*keys.moved(os.environ), *(getattr(options, "api_key", None) or [])]
    _stop_on_signals()
    try:
        return int(options.command(options))
    except StartError as error:
        note(str(error))
        return 1
    except (RequestFileError, ClientError, keys.KeyFileError) as error:
        note(str(error))
        return USAGE_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="local_runpod", description="A RunPod on this machine.", allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="serve|run|submit")
    for name, what, add_options in (
        ("serve", "serve the hosted API with real workers", _add_serve_options),
        ("run", "run one request on a platform of its own", _add_run_options),
        ("submit", "send a request or workflow to an endpoint", _add_submit_options),
    ):
        program = f"./scripts/{name}"  # as people call it
        command = commands.add_parser(
            name, prog=program, help=what, description=what, allow_abbrev=False
        )
        command.set_defaults(refuse=command.error)
        add_options(command)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:  # the parser of all commands would show its own usage
        options.refuse(f"unrecognized arguments: {' '.join(unknown)}")
    return options


def _add_serve_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (%(default)s)")
    parser.add_argument("--workers", type=_count, default=1, help="worker processes (%(default)s)")
    _add_key_option(
        parser, "ask clients for this key; may be repeated (default: LOCAL_RUNPOD_API_KEY, or none)"
    )
    _add_worker_option(parser)
    parser.set_defaults(command=serve)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("request", nargs="?", type=Path, default=TEST_INPUT, help=REQUEST_HELP)
    _add_request_options(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="show the worker's log")
    _add_worker_option(parser)
    parser.set_defaults(command=run)


def _add_submit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("request", nargs="?", type=Path, help=REQUEST_HELP)
    _add_request_options(parser)
    parser.add_argument(
        "--endpoint",
        default=os.environ.get("RUNPOD_ENDPOINT", DEFAULT_ENDPOINT),
        metavar="URL|ID",
        help=f"a URL, or a RunPod endpoint's id (default: RUNPOD_ENDPOINT, or {DEFAULT_ENDPOINT})",
    )
    _add_key_option(parser, "the endpoint's key (default: RUNPOD_API_KEY)")
    parser.add_argument(
        "--async", dest="detached", action="store_true", help="print the job's id and don't wait"
    )
    parser.add_argument("--job", metavar="ID", help="follow a job that was submitted with --async")
    parser.set_defaults(command=submit)


REQUEST_HELP = "a request, a workflow in any format, or a picture or other file that holds one"


def _add_request_options(parser: argparse.ArgumentParser) -> None:
    for name, what in (("image", "an input image"), ("file", "any other input file")):
        parser.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="[NAME=]PATH",
            help=f"attach {what}; may be repeated",
        )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        help="give an input of the workflow another value, such as 6.text='a cat'; may be repeated",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only check it, and list the workflow's inputs"
    )
    parser.add_argument("--output", type=Path, default=Path("output"), help="folder for the files")


def _add_key_option(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(keys.OPTION, action="append", metavar="KEY|@FILE", help=what)


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


def _write_any_text() -> None:
    """Print what the terminal's encoding lacks as escapes, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _stop_on_signals() -> None:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP too, and where a shell had SIGINT ignored."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
