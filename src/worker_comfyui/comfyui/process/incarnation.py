"""One run of ComfyUI, and how it is started."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from worker_comfyui.comfyui.process import environment, vital_signs
from worker_comfyui.comfyui.process.child import ComfyProcess
from worker_comfyui.comfyui.process.command import (
    FolderFlags,
    Folders,
    command,
    given_port,
    host,
    models_folder,
)
from worker_comfyui.comfyui.process.own_folders import OwnFolders
from worker_comfyui.comfyui.process.port import free_port
from worker_comfyui.config import Settings
from worker_comfyui.volume.model_paths import ModelPaths

log = logging.getLogger(__name__)


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


@dataclass(frozen=True, slots=True)
class Run:
    """An incarnation with its process; None where somebody else runs it."""

    incarnation: Incarnation
    process: ComfyProcess | None = None

    def is_ours(self) -> bool:
        """Tell whether it is our process that answers there: another may hold the port."""
        if self.process is None:
            return True
        port = int(self.incarnation.address.rpartition(":")[2])
        return vital_signs.listens(self.process.session, port) is not False

    def activity(self) -> vital_signs.Activity | None:
        """Return what its processes have done so far, where that is known."""
        return vital_signs.activity(self.process.session) if self.process else None

    def descriptors_left(self) -> int | None:
        """Return how many more files it may open, where that is known."""
        return vital_signs.descriptors_left(self.process.session) if self.process else None


class Starter:
    """Starts ComfyUI, each time with folders of its own.

    Args:
        settings: All settings.
        environ: The worker's environment variables.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environment = environment.for_comfyui(environ, settings.comfy_env_pass)
        self._model_paths = ModelPaths(settings)
        self._folders = OwnFolders()
        self._withheld = sorted(environment.withheld(environ, settings.comfy_env_pass))
        self._told = False

    @property
    def scratch(self) -> Path:
        """Where jobs keep their files.

        Raises:
            OSError: it cannot be made.
        """
        return self._folders.scratch

    def start(self, number: int, on_error: Callable[[str], None]) -> Run:
        """Start it, or find the one that runs already.

        Args:
            number: The incarnation's.
            on_error: Called, in another thread, with each error that it logs.

        Raises:
            OSError: a folder or program is not there.
            ConfigurationError: COMFYUI_ARGS are wrong.
        """
        settings = self._settings
        if settings.comfy_host is not None:
            return Run(Incarnation(number, settings.comfy_host, None))
        root, flags = settings.comfyui_path, settings.comfyui_args
        port = given_port(settings) or free_port()
        folders = self._folders.prepare(Folders.of(root, flags), FolderFlags.of(flags))
        models = self._model_paths.prepare(models_folder(root, flags))
        line = command(settings, port=port, folders=folders, extra_model_paths=models)
        log.info("starting ComfyUI", extra={"command": line})
        process = ComfyProcess(
            line,
            cwd=root,
            environment=self._environment,
            on_error=on_error,
        )
        return Run(Incarnation(number, f"{host(settings)}:{port}", folders), process)

    def started(self) -> None:
        """Do what must not delay the start."""
        if self._told:
            return
        self._told = True
        if self._withheld:
            names = ", ".join(self._withheld)
            log.info("ComfyUI does not get %s; COMFY_ENV_PASS names what a node needs", names)
        self._folders.sweep()

    def close(self) -> None:
        """Remove what it has made."""
        self._model_paths.close()
        self._folders.close()
