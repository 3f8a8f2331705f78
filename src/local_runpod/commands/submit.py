"""`submit`: a request to an endpoint, here or at RunPod."""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from typing import Any

from local_runpod.client.display import note, say
from local_runpod.client.endpoint import EndpointClient, endpoint_url
from local_runpod.client.request_file import RequestFileError, attach, load_request, override
from local_runpod.client.submitting import INTERRUPTED, follow_and_save, submit_and_save
from local_runpod.commands import keys

DEFAULT_ENDPOINT = "http://127.0.0.1:8000"


def submit(options: Namespace) -> int:
    """Send a request, or follow a job that was sent; gives the exit code."""
    named = options.api_key[-1] if options.api_key else None
    key = keys.read(named) if named else os.environ.get("RUNPOD_API_KEY")
    client = EndpointClient(endpoint_url(options.endpoint), key)
    if options.job:
        try:
            return follow_and_save(client, options.job, options.output)
        except KeyboardInterrupt:
            say(f"The job goes on. Follow it: {_follow_line(client.url, options.job, named)}")
            return INTERRUPTED
    if options.request is None:
        raise RequestFileError("Name a request or workflow file: ./scripts/submit test_input.json")
    request = request_of(options)
    if not options.detached:
        return submit_and_save(client, request, options.output)
    job_id = client.submit(request)
    say(job_id)
    note(f"Follow it and save its outputs: {_follow_line(client.url, job_id, named)}")
    return 0


def request_of(options: Namespace) -> dict[str, Any]:
    """Make the request of the file and the options that say what goes into it.

    Raises:
        RequestFileError: A file cannot be read, or an option has the wrong form.
    """
    request = load_request(options.request)
    attach(request, images=options.image, files=options.file)
    override(request, options.set)
    if options.dry_run:
        request["input"]["dry_run"] = True
    return request


def _follow_line(url: str, job_id: str, named_key: str | None) -> str:
    """The command that follows the job; a key that was typed is left out, its place is not."""
    line = f"./scripts/submit --endpoint {shlex.quote(url)} --job {shlex.quote(job_id)}"
    if named_key is None:
        return line
    return f"{line} {keys.OPTION} {shlex.quote(named_key) if named_key[0] == '@' else 'KEY'}"
