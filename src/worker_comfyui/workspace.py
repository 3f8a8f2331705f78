"""One job's files in ComfyUI's folders: put there before it runs, fetched and removed after."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from worker_comfyui.comfyui.client import BadAnswer, ComfyClient, FileMissing
from worker_comfyui.comfyui.command import Folders
from worker_comfyui.comfyui.outputs import Outputs
from worker_comfyui.errors import disk_errors
from worker_comfyui.job import FetchedInput
from worker_comfyui.media.output_file import OutputFile
from worker_comfyui.stop import JobCancelled

log = logging.getLogger(__name__)

MAX_SUFFIX = 32


class Workspace:
    """The files of one job on one ComfyUI.

    Removal needs the folders, so it does nothing for a ComfyUI on another machine.
    """

    def __init__(self, folders: Folders | None, name: str, scratch: Path) -> None:
        """Prepare it; nothing is written yet.

        Args:
            folders: ComfyUI's folders, None where they are not on this machine.
            name: The job's own folder, relative to the output folder.
            scratch: A folder of the worker's, for the fetched files.
        """
        self.name = name
        self._folders = folders
        self._scratch = scratch
        self._staged: dict[str, Path] = {}

    def stage(self, client: ComfyClient, files: Iterable[FetchedInput]) -> None:
        """Upload the input files under their own names: the workflow refers to them.

        A file of that name that was there before (in the image, say) is kept aside meanwhile.

        Raises:
            ComfyUnavailable: ComfyUI did not take one.
        """
        for file in files:
            self._keep_aside(file.name)
            stored = client.upload(file.name, file.path.read_bytes())
            if stored != file.name:
                raise BadAnswer(f"ComfyUI stored the input {file.name!r} as {stored!r}")

    def unstage(self) -> None:
        """Remove the job's input files, and put back what was kept aside."""
        if self._folders is None:
            return
        for name, aside in self._staged.items():
            path = self._folders.input / name
            with suppress(OSError):
                path.unlink(missing_ok=True)
            with suppress(OSError):
                aside.rename(path)
            _remove_empty_parents(path, self._folders.input)
        self._staged.clear()

    def fetch(
        self, client: ComfyClient, artifacts: Sequence[OutputFile], cancelled: Callable[[], bool]
    ) -> tuple[list[OutputFile], list[OutputFile]]:
        """Download the artifacts; return those that are there, with their paths, and the missing.

        Raises:
            ComfyUnavailable: one came only in part.
            DiskFull: there is no space for them.
            JobCancelled: `cancelled` became true.
        """
        fetched: list[OutputFile] = []
        missing: list[OutputFile] = []
        for index, artifact in enumerate(artifacts):
            if cancelled():
                raise JobCancelled
            path = self._scratch / f"{index}{Path(artifact.filename).suffix[:MAX_SUFFIX]}"
            try:
                with disk_errors():
                    client.download(
                        filename=artifact.filename,
                        subfolder=artifact.subfolder,
                        folder_type=artifact.folder_type,
                        to=path,
                    )
            except FileMissing:
                missing.append(artifact)
            else:
                fetched.append(replace(artifact, path=path))
        return fetched, missing

    def remove_outputs(self, outputs: Outputs | None) -> None:
        """Remove the job's folder, and what the nodes reported outside it."""
        if self._folders is None:
            return
        shutil.rmtree(self._folders.output / self.name, ignore_errors=True)
        shutil.rmtree(self._folders.temp / self.name, ignore_errors=True)
        if outputs is None:
            return
        for artifact in (*outputs.artifacts, *outputs.temporary):
            root = self._folders.output if artifact.folder_type == "output" else self._folders.temp
            path = root / artifact.name
            # Through a link it could lie anywhere.
            if path.parent.resolve().is_relative_to(root.resolve()):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                _remove_empty_parents(path, root)

    def _keep_aside(self, name: str) -> None:
        if self._folders is None or name in self._staged:
            return
        path = self._folders.input / name
        # Not named after the file: its name may be as long as a name can be.
        self._staged[name] = path.with_name(f".{self.name}-{len(self._staged)}.aside")
        with suppress(OSError):
            path.rename(self._staged[name])


def _remove_empty_parents(path: Path, root: Path) -> None:
    for folder in path.parents:
        if folder == root:
            return
        try:
            folder.rmdir()
        except OSError:
            return
