"""The worker's entrypoint: starts ComfyUI, then takes jobs from RunPod until it is told to stop.

    python handler.py                    on RunPod; elsewhere it runs test_input.json and exits
    python handler.py --rp_serve_api     serves the SDK's local API (also SERVE_API_LOCALLY=true)
    python handler.py --version          says which version this is

Importing this module does nothing. All settings are environment variables: docs/configuration.md.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import closing
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from worker_comfyui import __version__, logs, preflight
from worker_comfyui.comfyui.process.supervisor import Supervisor
from worker_comfyui.config import Settings
from worker_comfyui.errors import StartError
from worker_comfyui.redaction import Redactor
from worker_comfyui.volume import report

log = logging.getLogger("worker_comfyui.handler")

SECRETS_LINGER_S = 30.0


def main() -> int:
    """Run the worker; return the process's exit code."""
    if "--version" in sys.argv[1:]:
        sys.stdout.write(f"{__version__}\n")
        return 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    environ = dict(os.environ)
    try:
        settings = preflight.settings_from(environ)
    except StartError as error:
        sys.stderr.write(f"{error}\n")  # how to log is a setting as well
        return 1
    redactor = Redactor(settings.secrets(), linger_s=SECRETS_LINGER_S)
    logs.configure(settings, redactor)
    log.info("worker-comfyui %s", __version__, extra={"event": "starting"})
    # Before anything else that takes time: every cold start waits for ComfyUI.
    supervisor = Supervisor(settings, environ)
    supervisor.start()
    report.start(settings)
    try:
        return _serve(settings, supervisor, redactor)
    except StartError as error:
        extra = {"event": "start_failed", "error_code": error.code}
        log.critical("%s", error, extra=extra)
        return 1
    except Exception:
        log.critical("the worker failed", exc_info=True, extra={"event": "worker_failed"})
        return 1
    finally:
        supervisor.stop()


def _serve(settings: Settings, supervisor: Supervisor, redactor: Redactor) -> int:
    # Imported here: ComfyUI is starting already.
    from worker_comfyui.worker import Worker  # noqa: PLC0415

    with closing(Worker(settings, supervisor, redactor)) as worker:
        worker.preload()
        # The SDK takes most of a second.
        from worker_comfyui.platform_side import serverless  # noqa: PLC0415

        logs.configure(settings, redactor)  # the SDK's import has set up logging of its own
        if settings.websocket_trace:
            logs.trace_websockets()
        supervisor.wait_ready()
        worker.warm_up()
        if settings.serve_api_locally:  # the SDK's `start` reads the command line alone
            sys.argv[1:1] = ["--rp_serve_api", "--rp_api_host", "0.0.0.0"]  # noqa: S104  # nosec B104  # asked for
        serverless.serve(settings, worker)
    return 1 if worker.must_retire else 0


def _exit(_signal: int, _frame: FrameType | None) -> None:
    """End cleanly before the SDK's loop has set its own handler; as PID 1, nobody else would."""
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
