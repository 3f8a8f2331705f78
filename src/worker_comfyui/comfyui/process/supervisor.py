"""Keeps one ComfyUI alive: starts it, watches it, starts it again when it dies or freezes.

How it is started is in `incarnation`, what is watched in `watch`, how often it is started again in
`restarts`, why it ended in `diagnosis`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker_comfyui.comfyui.process.diagnosis import Ended, unusable, with_log
from worker_comfyui.comfyui.process.incarnation import Incarnation, Run, Starter
from worker_comfyui.comfyui.process.restarts import Restarts
from worker_comfyui.config import Settings
from worker_comfyui.errors import ComfyCrashed, ComfyStartFailed, StartError
from worker_comfyui.wording import cut

if TYPE_CHECKING:
    from worker_comfyui.comfyui.process.watch import Watch

__all__ = ["Ended", "Incarnation", "Supervisor"]

log = logging.getLogger(__name__)

WAIT_S = 0.2
DRAIN_S = 0.2
"""For ComfyUI's lines about a job, which later would be logged as the next one's."""
STOP_GRACE_S = 5.0
MAX_VERSION = 64
MAX_DEVICES = 16
_STOPPING = Ended("the worker stops")


class Supervisor:
    """Owns ComfyUI's process, or watches one that somebody else runs (`COMFY_HOST`).

    All processes are started by its own thread, which lives until `stop()`.

    Args:
        settings: All settings.
        environ: The worker's environment variables, of which ComfyUI gets most.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._starter = Starter(settings, environ)
        self._restarts = Restarts(settings.comfy_max_restarts)
        self._changed = threading.Condition()
        self._number = 0
        self._run: Run | None = None
        self._watch: Watch | None = None
        self._ready: Incarnation | None = None
        self._ended: dict[int, Ended] = {}
        self._error: StartError | ComfyCrashed | None = None
        self._ever_ready = False
        self._version: str | None = None
        self._must_end: Ended | None = None
        self._unusable: str | None = None
        self._jobs = 0
        self._stopping = False
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="comfyui-supervisor", daemon=True)

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
        self._starter.close()

    @property
    def scratch(self) -> Path:
        """Where jobs keep their files; on the file system of ComfyUI's folders, as a rule.

        Raises:
            OSError: it cannot be made.
        """
        return self._starter.scratch

    @property
    def is_ready(self) -> bool:
        """Whether ComfyUI can be used right now."""
        return self._ready is not None

    @property
    def version(self) -> str | None:
        """ComfyUI's version, once it was ready; None also where it does not say."""
        return self._version

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
                    raise ComfyCrashed(_STOPPING.reason)
                self._changed.wait(WAIT_S)
        return None

    def failure(self, incarnation: Incarnation) -> Ended | None:
        """Say why this incarnation is no more; None while it lives."""
        with self._changed:
            return self._ended.get(incarnation.number)

    @contextmanager
    def in_use(self, incarnation: Incarnation) -> Iterator[Callable[[], None]]:
        """Hold an incarnation for one job: from its first file there to its last.

        If it turned out that nothing more can be run in it, it is started again when the block
        ends, not before. The block gets what looks for that ahead: the next job waits for the end,
        which has less to do then.
        """
        has_looked = False

        def look_ahead() -> None:
            self._drain(incarnation)
            look()

        def look() -> None:
            nonlocal has_looked
            has_looked = True
            if self._lacks_descriptors(incarnation):
                with self._changed:
                    self._note_unusable(incarnation, "its nodes have opened all files that it may")

        with self._changed:
            self._jobs += 1
        try:
            yield look_ahead
        finally:
            self._drain(incarnation)
            if not has_looked:
                look()
            with self._changed:
                self._jobs -= 1
                if self._unusable:
                    self._ready = None
                self._changed.notify_all()

    def workflow_ended(self, incarnation: Incarnation, error: str | None = None) -> None:
        """Note that ComfyUI ran a workflow to its end: earlier restarts no longer count.

        Args:
            incarnation: Where it ran.
            error: What the node that failed said; it may mean that every later one will fail.
        """
        reason = unusable(error) if error else None
        with self._changed:
            if reason:
                self._note_unusable(incarnation, reason)
            else:
                self._restarts.forget()

    def restart(self, incarnation: Incarnation, reason: str) -> None:
        """Kill this incarnation, if it still lives, so that the next is started."""
        with self._changed:
            if self._number == incarnation.number and incarnation.number not in self._ended:
                self._must_end = Ended(reason, run_again=False)
                self._changed.notify_all()
            while incarnation.number not in self._ended and not self._stopping:
                self._changed.wait(WAIT_S)

    def _drain(self, incarnation: Incarnation) -> None:
        run = self._run
        if run and run.process and run.incarnation == incarnation:
            run.process.log.drain(DRAIN_S)

    def _lacks_descriptors(self, incarnation: Incarnation) -> bool:
        run, watch = self._run, self._watch
        return bool(run and watch and run.incarnation == incarnation and watch.lacks_descriptors())

    def _keep(self) -> None:
        try:
            while self._live_and_decide():
                pass
        except Exception as error:
            log.exception("the supervisor of ComfyUI failed")
            with self._changed:  # nobody may wait for ever
                self._ready = None
                reason = f"the worker's supervisor failed: {error}"
                self._ended[self._number] = Ended(reason)
                self._error = ComfyStartFailed(reason)
                self._changed.notify_all()
        finally:
            self._begun.set()

    def _live_and_decide(self) -> bool:
        """Run one incarnation to its end; tell whether to start another one."""
        with self._changed:
            self._number += 1
            self._must_end = self._unusable = None
        ended, lines = self._live()
        with self._changed:
            was_ready = self._ready is not None
            self._ready = None
            self._ended[self._number] = ended
            # A job that would end any ComfyUI says nothing about this one.
            counts = not self._jobs or ended.run_again
            if not self._stopping and counts:
                self._error = self._given_up(ended, lines, was_ready=was_ready)
            self._changed.notify_all()
            if self._stopping or self._error:
                return False
            pause_s = self._restarts.next_pause_s() if counts else 0.0
            log.warning("%s; starting it again in %g s", ended.reason, pause_s)
            return not self._changed.wait_for(lambda: self._stopping, pause_s)

    def _given_up(
        self, ended: Ended, lines: list[str], *, was_ready: bool
    ) -> StartError | ComfyCrashed | None:
        if not self._ever_ready:
            return ComfyStartFailed(with_log(ended.reason, lines))
        if self._settings.comfy_host is not None:
            # Whoever runs it had all of COMFY_START_TIMEOUT_S to bring it back.
            return None if was_ready else ComfyCrashed(ended.reason)
        if self._restarts.are_used_up:
            return ComfyCrashed(f"{ended.reason}; {self._restarts.count} restarts did not help")
        return None

    def _live(self) -> tuple[Ended, list[str]]:
        """Run one incarnation to its end; return why it ended, and its last log lines."""
        try:
            run = self._starter.start(self._number, self._note_error)
        except OSError as error:
            what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
            reason = f"ComfyUI could not be started: {what} (see COMFYUI_PATH, COMFYUI_PYTHON)"
            return Ended(reason), []
        try:
            ended = self._watched(run)
        finally:
            if run.process:
                run.process.stop(grace_s=STOP_GRACE_S if self._stopping else 0)
        return ended, run.process.last_lines() if run.process else []

    def _watched(self, run: Run) -> Ended:
        # Imported only when ComfyUI is starting already: HTTP clients take a while. `start` waits
        # for it: imports in two threads at once may end in a deadlock, or see each other half done.
        from worker_comfyui.comfyui.process.watch import Watch  # noqa: PLC0415

        self._begun.set()
        self._starter.started()
        started = time.monotonic()
        self._run = run
        self._watch = watch = Watch(self._settings, run, self._waited)
        found = watch.until_ready()
        if isinstance(found, Ended):
            return found
        self._version = _version(found)
        _log_ready(self._version, _devices(found), time.monotonic() - started)
        with self._changed:
            self._ever_ready = True
            self._ready = run.incarnation
            self._changed.notify_all()
        return watch.until_end()

    def _waited(self, pause_s: float) -> Ended | None:
        """Wait a moment; return why the incarnation must end now, if it must."""
        with self._changed:
            self._changed.wait_for(self._end_wanted, pause_s)
            return self._end_wanted()

    def _end_wanted(self) -> Ended | None:
        if self._stopping:
            return _STOPPING
        if self._unusable and not self._jobs:
            return Ended(self._unusable, run_again=False)
        return self._must_end

    def _note_error(self, text: str) -> None:
        run = self._run
        if run and (reason := unusable(text)):
            with self._changed:
                self._note_unusable(run.incarnation, reason)

    def _note_unusable(self, incarnation: Incarnation, reason: str) -> None:
        if self._settings.comfy_host is not None:
            log.warning("%s; only its restart can help, which is not the worker's", reason)
        elif self._number == incarnation.number:
            self._unusable = self._unusable or reason
            self._changed.notify_all()


def _version(description: dict[str, Any]) -> str | None:
    system = description.get("system")
    version = system.get("comfyui_version") if isinstance(system, dict) else None
    return cut(version, MAX_VERSION) if isinstance(version, str) and version else None


def _devices(description: dict[str, Any]) -> list[str]:
    found = description.get("devices")
    devices = found[:MAX_DEVICES] if isinstance(found, list) else []
    names = [device.get("name") for device in devices if isinstance(device, dict)]
    return [cut(name, MAX_VERSION) for name in names if isinstance(name, str) and name]


def _log_ready(version: str | None, devices: list[str], seconds: float) -> None:
    log.info(
        "ComfyUI%s is ready after %.1f s%s",
        f" {version}" if version else "",
        seconds,
        f" on {', '.join(devices)}" if devices else "",
        extra={"event": "comfyui_ready", "seconds": round(seconds, 3)},
    )
