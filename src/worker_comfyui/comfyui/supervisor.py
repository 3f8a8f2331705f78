"""Keeps one ComfyUI alive: starts it, watches it, starts it again when it dies or freezes."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker_comfyui.comfyui.command import Folders, command, given_port, models_folder
from worker_comfyui.comfyui.diagnosis import exit_reason, hint
from worker_comfyui.comfyui.process import ComfyProcess
from worker_comfyui.config import Settings
from worker_comfyui.errors import ComfyCrashed, ComfyStartFailed, ComfyUnavailable, StartError
from worker_comfyui.volume.model_paths import ModelPaths

if TYPE_CHECKING:
    from worker_comfyui.comfyui.client import ComfyClient

log = logging.getLogger(__name__)

LOOK_S = 0.2
PING_EVERY_S = 2.0
STOP_GRACE_S = 5.0
MAX_BACK_OFF_S = 30.0
SHOWN_LINES = 15


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One run of ComfyUI, from start to end; a restart makes the next.

    Attributes:
        number: 1 for the first start.
        address: `host:port`.
        folders: Its folders; None where they are not on this machine.
    """

    number: int
    address: str
    folders: Folders | None


class Supervisor:
    """Owns ComfyUI's process, or watches one that somebody else runs (`COMFY_HOST`).

    All processes are started by its own thread, which lives until `stop()`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model_paths = ModelPaths(settings)
        self._changed = threading.Condition()
        self._number = 0
        self._ready: Incarnation | None = None
        self._ended: dict[int, str] = {}
        self._error: StartError | ComfyCrashed | None = None
        self._restarts = 0
        self._ever_ready = False
        self._kill_reason: str | None = None
        self._stopping = False
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name="comfyui-supervisor", daemon=True)

    def start(self) -> None:
        """Start ComfyUI, and return when its process is there; `wait_ready` tells of the rest."""
        self._thread.start()
        self._begun.wait()

    def stop(self) -> None:
        """End ComfyUI, and wait until it is gone."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._model_paths.close()

    @property
    def is_ready(self) -> bool:
        """Whether ComfyUI can be used right now."""
        return self._ready is not None

    @property
    def gave_up(self) -> bool:
        """Whether ComfyUI is down for good: this worker cannot do any job any more."""
        return self._error is not None

    def wait_ready(self, give_up: Callable[[], bool] = lambda: False) -> Incarnation | None:
        """Wait until ComfyUI can be used; None if `give_up()` came first.

        Raises:
            ComfyStartFailed: the first start failed.
            ComfyCrashed: it died, and restarts did not help; or `stop()` was called.
        """
        with self._changed:
            while not give_up():
                if self._ready:
                    return self._ready
                if self._error:
                    raise self._error
                if self._stopping:
                    raise ComfyCrashed("the worker stops")
                self._changed.wait(LOOK_S)
        return None

    def failure(self, incarnation: Incarnation) -> str | None:
        """Say why this incarnation is no more; None while it lives."""
        with self._changed:
            return self._ended.get(incarnation.number)

    def restart(self, incarnation: Incarnation, reason: str) -> None:
        """Kill this incarnation, if it still lives, so that the next is started."""
        with self._changed:
            if self._number == incarnation.number and incarnation.number not in self._ended:
                self._kill_reason = reason
                self._changed.notify_all()
            while incarnation.number not in self._ended and not self._stopping:
                self._changed.wait(LOOK_S)

    def succeeded(self) -> None:
        """Note that a job ended well: earlier restarts no longer count."""
        with self._changed:
            self._restarts = 0

    def _run(self) -> None:
        try:
            self._keep_alive()
        except Exception as error:
            log.exception("the supervisor of ComfyUI failed")
            with self._changed:  # nobody may wait for ever
                self._ready = None
                self._ended[self._number] = str(error)
                self._error = ComfyStartFailed(f"the worker's supervisor failed: {error}")
                self._changed.notify_all()
        finally:
            self._begun.set()

    def _keep_alive(self) -> None:
        while True:
            with self._changed:
                self._number += 1
                self._kill_reason = None
            reason, lines = self._live()
            with self._changed:
                was_ready = self._ready is not None
                self._ready = None
                self._ended[self._number] = reason
                self._changed.notify_all()
                if self._stopping:
                    return
                if self._give_up(reason, lines, was_ready=was_ready):
                    self._changed.notify_all()
                    return
                self._restarts += 1
                pause = min(2.0 ** (self._restarts - 1) - 1, MAX_BACK_OFF_S)
                log.warning("%s; starting it again in %g s", reason, pause)
                if self._changed.wait_for(lambda: self._stopping, pause):
                    return

    def _give_up(self, reason: str, lines: list[str], *, was_ready: bool) -> bool:
        if not self._ever_ready:
            self._error = ComfyStartFailed(_with_log(reason, lines))
        elif self._settings.comfy_host is not None:
            if not was_ready:  # whoever runs it had all of COMFY_START_TIMEOUT_S to bring it back
                self._error = ComfyCrashed(reason)
        elif self._restarts >= self._settings.comfy_max_restarts:
            self._error = ComfyCrashed(f"{reason}; {self._restarts} restarts did not help")
        return self._error is not None

    def _live(self) -> tuple[str, list[str]]:
        """Run one incarnation to its end; return why it ended, and its last log lines."""
        if self._settings.comfy_host is not None:
            return self._watch(None, Incarnation(self._number, self._settings.comfy_host, None)), []
        port = given_port(self._settings) or _free_port()
        root, flags = self._settings.comfyui_path, self._settings.comfyui_args
        line = command(self._settings, port, self._model_paths.prepare(models_folder(root, flags)))
        folders = Folders.of(root, line)
        log.info("starting ComfyUI", extra={"command": line})
        try:
            process = ComfyProcess(line, cwd=self._settings.comfyui_path)
        except OSError as error:
            return f"ComfyUI could not be started: {error} (see COMFYUI_PATH, COMFYUI_PYTHON)", []
        try:
            reason = self._watch(process, Incarnation(self._number, f"127.0.0.1:{port}", folders))
        finally:
            process.stop(grace_s=STOP_GRACE_S if self._stopping else 0)
        return reason, process.last_lines()

    def _watch(self, process: ComfyProcess | None, incarnation: Incarnation) -> str:
        # Imported only when ComfyUI is starting already: HTTP clients take a while. `start` waits
        # for it: imports in two threads at once may end in a deadlock, or see each other half done.
        from worker_comfyui.comfyui.client import ComfyClient  # noqa: PLC0415

        self._begun.set()
        settings = self._settings
        started = asked = time.monotonic()
        # Counted from a failed look, not from the last answer: where the platform freezes the whole
        # worker and thaws it later (FlashBoot), nobody was silent.
        silent_since: float | None = None
        looks = 0
        with ComfyClient(
            incarnation.address, timeout_s=min(10, settings.comfy_hang_timeout_s)
        ) as client:
            while True:
                ready = self._ready is not None
                pause = LOOK_S if ready else settings.comfy_api_available_interval_ms / 1000
                reason = self._ended_by(process, pause)
                if reason:
                    return reason
                now = time.monotonic()
                if ready and now - asked < min(PING_EVERY_S, settings.comfy_hang_timeout_s / 2):
                    continue
                asked = now
                looks += 1
                answers = client.is_ready()
                now = time.monotonic()
                silent_since = None if answers else silent_since or now
                if ready:
                    if silent_since and now - silent_since > settings.comfy_hang_timeout_s:
                        return f"ComfyUI gave no answer for {settings.comfy_hang_timeout_s:g} s"
                elif answers and self._announce(incarnation, client, now - started):
                    continue
                elif self._too_late(looks, now - started):
                    return f"ComfyUI was not ready after {now - started:.0f} s"

    def _ended_by(self, process: ComfyProcess | None, pause: float) -> str | None:
        """Wait a moment; return why the incarnation must end now, if it must."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._kill_reason, pause)
            if self._stopping:
                return "the worker stops"
            if self._kill_reason:
                return self._kill_reason
        code = process.wait(0) if process else None
        return None if code is None else f"ComfyUI {exit_reason(code)}"

    def _too_late(self, looks: int, seconds: float) -> bool:
        retries = self._settings.comfy_api_available_max_retries
        return seconds > self._settings.comfy_start_timeout_s or 0 < retries <= looks

    def _announce(self, incarnation: Incarnation, client: ComfyClient, seconds: float) -> bool:
        """Let jobs use this incarnation; False if it cannot even describe itself yet."""
        try:
            system = client.system_stats()
        except ComfyUnavailable:
            return False
        devices = [str(device.get("name")) for device in system.get("devices", ())]
        version = system.get("system", {}).get("comfyui_version")
        log.info(
            "ComfyUI %s is ready after %.1f s on %s",
            version,
            seconds,
            ", ".join(devices),
            extra={"event": "comfyui_ready", "seconds": round(seconds, 3)},
        )
        with self._changed:
            self._ever_ready = True
            self._ready = incarnation
            self._changed.notify_all()
        return True


def _with_log(reason: str, lines: list[str]) -> str:
    advice = hint(lines)
    text = f"{reason}. {advice[0].upper()}{advice[1:]}." if advice else f"{reason}."
    if lines:
        text += " The end of its log:\n" + "\n".join(f"  {line}" for line in lines[-SHOWN_LINES:])
    return text


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
