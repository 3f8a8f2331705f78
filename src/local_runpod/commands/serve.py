"""`serve`: the hosted API on this machine until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import threading
from argparse import Namespace

from local_runpod.background import running_platform
from local_runpod.client.display import note, say
from local_runpod.commands import keys
from local_runpod.commands.project import TEST_INPUT, log_to, worker_plan
from local_runpod.server import PlatformSettings
from local_runpod.workers.environment import describe_comfyui

USAGE_ERROR = 2


def serve(options: Namespace) -> int:
    """Run the platform; gives the exit code."""
    named = [keys.read(option) for option in options.api_key]
    api_keys = named or os.environ.get("LOCAL_RUNPOD_API_KEY", "").split()
    several = options.workers > 1
    if several and os.environ.get("COMFY_HOST"):
        note(
            "Several workers cannot share the ComfyUI at COMFY_HOST: they would overwrite each "
            "other's input files. Use --workers 1, or COMFYUI_PATH instead."
        )
        return USAGE_ERROR
    log_to(sys.stdout)
    settings = PlatformSettings(
        plan=worker_plan(
            options,
            lambda name, line: say(f"{name} | {line}"),
            several=several,
            readable=sys.stdout.isatty(),
        ),
        workers=options.workers,
        host=options.host,
        port=options.port,
        api_keys=tuple(api_keys),
    )
    with running_platform(settings) as platform:
        with contextlib.suppress(KeyboardInterrupt):
            say(f"Starting {options.workers} worker{'s' if several else ''} ...")
            say(f"ComfyUI: {describe_comfyui(os.environ)}")
            platform.until_ready(starts=3)
            _say_where(platform.url, with_key=bool(api_keys))
            threading.Event().wait()
        say("Stopping ...")
    return 0


def _say_where(url: str, *, with_key: bool) -> None:
    header = ' -H "Authorization: Bearer $KEY"' if with_key else ""
    request = shlex.quote(f"@{TEST_INPUT}")
    say()
    say(f"Ready: {url}/ in a browser, to try it.")
    say(f"The API: {url}/runsync  {url}/run  {url}/status/ID  {url}/health")
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
