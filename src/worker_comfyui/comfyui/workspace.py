"""One job's files in ComfyUI's folders: while it has its turn, the folders are its own.

What appears in the output folder is the job's result, whether a node reports it or not, and is
moved out before the next job begins. Names start at 1 in every job, and nobody finds the files of
another caller. A ComfyUI on another machine (COMFY_HOST) gives what its history names.
"""

from __future__ import annotations

import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from worker_comfyui.comfyui.client import BadAnswer, ComfyClient, FileMissing
from worker_comfyui.comfyui.outputs import Outputs
from worker_comfyui.comfyui.process.aside import (
    begin,
    bring_back,
    note_all_aside,
    note_staged,
    put_all_aside,
    put_aside,
)
from worker_comfyui.comfyui.process.command import Folders
from worker_comfyui.comfyui.tree import Tree
from worker_comfyui.errors import Detail, disk_errors
from worker_comfyui.hosts.sockets import bounded
from worker_comfyui.media.media_types import by_name, kind_of
from worker_comfyui.media.output_file import OutputFile
from worker_comfyui.stop import Stop

MAX_SUFFIX = 32


@dataclass(slots=True)
class Taken:
    """What was taken out of ComfyUI's folders.

    Attributes:
        files: With their copies on this machine, in the order of the workflow; those that no node
            reported come last.
        previews: The same of what is only shown.
        missing: Reported, but not there.
    """

    files: list[OutputFile] = field(default_factory=list)
    previews: list[OutputFile] = field(default_factory=list)
    missing: list[OutputFile] = field(default_factory=list)

    def problems(self) -> list[Detail]:
        """Say which files are missing, for the caller."""
        return [
            {
                "node_id": str(file.node_id),
                "message": f"reported the file {file.name}, which is not there",
            }
            for file in self.missing
        ]


class Workspace(ABC):
    """The files of one job on one ComfyUI."""

    def __init__(self, scratch: Path) -> None:
        """Prepare it; nothing is written yet.

        Args:
            scratch: A folder of the job's own, for what is taken out.
        """
        self._scratch = scratch
        self._taken = 0

    @property
    def folders(self) -> Mapping[str, Path]:
        """ComfyUI's folders by what nodes call them, where they are on this machine."""
        return {}

    @abstractmethod
    def stage(self, files: Mapping[str, Path]) -> None:
        """Put the input files where the workflow's loaders find them, under their own names.

        Raises:
            ComfyUnavailable: ComfyUI did not take one.
            DiskFull: there is no space for them.
        """

    @abstractmethod
    def gather(self, stop: Stop) -> None:
        """Begin to take out what the workflow made: all that needs no word of its nodes.

        Raises:
            DiskFull: there is no space for it.
            JobCancelled, TimedOut: it is to stop.
        """

    @abstractmethod
    def take(self, reported: Outputs, stop: Stop, *, previews: bool = False) -> Taken:
        """Take out what the workflow made.

        Raises:
            ComfyUnavailable: a file came only in part.
            DiskFull: there is no space for them.
            JobCancelled, TimedOut: it is to stop.
        """

    @abstractmethod
    def close(self) -> None:
        """Remove everything that the job left, and put back what was there before."""

    def new_path(self, filename: str) -> Path:
        """Return a path in the scratch folder for a file of that name."""
        # By number: two subfolders may have files of one name.
        self._taken += 1
        return self._scratch / f"{self._taken}{PurePosixPath(filename).suffix[:MAX_SUFFIX]}"


class LocalWorkspace(Workspace):
    """In the folders of a ComfyUI on this machine."""

    def __init__(self, folders: Folders, scratch: Path) -> None:
        """Make room: what lies in the output and temp folders is put aside.

        Raises:
            DiskFull: there is no space for that.
        """
        super().__init__(scratch)
        self._folders = folders
        self._staged: frozenset[str] = frozenset()
        self._gathered: dict[str, Path] = {}
        with disk_errors(), ExitStack() as undo:
            for folder in (folders.output, folders.temp):
                undo.callback(bring_back, folder)
                is_private = folder in folders.private
                if not is_private:
                    begin(folder)
                put_all_aside(folder)
                if not is_private:
                    note_all_aside(folder)
            undo.pop_all()
        self._stays = Tree.of(folders.output)
        self._before = Tree.of(folders.input)

    @property
    def folders(self) -> Mapping[str, Path]:
        """The two in which nodes report files."""
        return {"output": self._folders.output, "temp": self._folders.temp}

    def stage(self, files: Mapping[str, Path]) -> None:
        """Link the files into the input folder; a file of that name is put aside meanwhile."""
        folder = self._folders.input
        with disk_errors():
            put_aside(folder, files)
            if files and folder not in self._folders.private:
                begin(folder)
                note_staged(folder, files)
            self._staged = frozenset(files)
            for name, path in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                _link(path, folder / name)

    def take(self, reported: Outputs, stop: Stop, *, previews: bool = False) -> Taken:
        """Move the files out of the output folder, reported ones first."""
        # A thread that a node has started may write a moment longer than its prompt runs.
        made = {**self._gathered, **self._made(stop)}
        taken = Taken()
        for file in reported.artifacts:
            _take_reported(file, made, taken)
        shown = Tree.of(self._folders.temp).regular_files() if previews else {}
        for file in reported.temporary:
            # A preview may lie in the output folder: it is no file that nobody reported.
            if file.folder_type == "output":
                path = made.pop(file.name, None)
            else:
                path = self._moved(shown.pop(file.name, None))
            if path and previews:
                taken.previews.append(replace(file, path=path))
        taken.files += [replace(_unreported(name), path=made[name]) for name in sorted(made)]
        return taken

    def gather(self, stop: Stop) -> None:
        """Move the files out of the output folder."""
        self._gathered = self._made(stop)

    def _made(self, stop: Stop) -> dict[str, Path]:
        made: dict[str, Path] = {}
        with disk_errors():
            for name, path in Tree.of(self._folders.output).regular_files().items():
                stop.check()
                if name not in self._stays.files and (moved := self._moved(path)):
                    made[name] = moved
        return made

    def _moved(self, path: Path | None) -> Path | None:
        """Move a file out; None: it is not there, or not any more."""
        if path is None:
            return None
        to = self.new_path(path.name)
        with disk_errors(), suppress(FileNotFoundError):
            return Path(shutil.move(path, to))
        return None

    def close(self) -> None:
        """Empty the output and temp folders, and remove from the input folder what is new."""
        _restore(self._folders.output, self._stays)
        _restore(self._folders.temp, Tree())
        for name in self._staged:  # also where the folder cannot be listed
            with suppress(OSError):
                (self._folders.input / name).unlink()
        # Under the name of a staged file lies the job's own by now; the other one is put aside.
        before = Tree(
            {name: path for name, path in self._before.files.items() if name not in self._staged},
            self._before.folders,
        )
        _restore(self._folders.input, before)


class RemoteWorkspace(Workspace):
    """On a ComfyUI whose folders are not on this machine: what its history names is downloaded."""

    def __init__(self, client: ComfyClient, scratch: Path) -> None:
        super().__init__(scratch)
        self._client = client

    def stage(self, files: Mapping[str, Path]) -> None:
        """Upload the files, over those of the same names."""
        for name, path in files.items():
            stored = self._client.upload(name, path)
            if stored != name:
                raise BadAnswer(f"ComfyUI stored the input {name!r} as {stored!r}")

    def gather(self, stop: Stop) -> None:
        """Do nothing: ComfyUI gives files by the names that its nodes reported."""

    def take(self, reported: Outputs, stop: Stop, *, previews: bool = False) -> Taken:
        """Download what the nodes reported; a server that sends byte by byte gets no more time."""
        taken = Taken()
        with bounded(stop):
            for file in reported.artifacts:
                stop.check()
                if copy := self._downloaded(file):
                    taken.files.append(copy)
                else:
                    taken.missing.append(file)
            if previews:
                copies = map(self._downloaded, reported.temporary)
                taken.previews = [copy for copy in copies if copy]
        return taken

    def _downloaded(self, file: OutputFile) -> OutputFile | None:
        to = self.new_path(file.filename)
        try:
            with disk_errors():
                self._client.download(
                    filename=file.filename,
                    subfolder=file.subfolder,
                    folder_type=file.folder_type,
                    to=to,
                )
        except FileMissing:
            return None
        return replace(file, path=to)

    def close(self) -> None:
        """Leave everything as it is: the folders are out of reach."""


def _link(path: Path, place: Path) -> None:
    """Give a file a second name; a copy where the two lie on different disks."""
    # No symbolic link: ComfyUI refuses one that leads out of the folder since 0.28.0
    # (folder_paths.py, is_within_directory).
    try:
        os.link(path, place)
    except OSError:
        shutil.copyfile(path, place)


def _restore(folder: Path, before: Tree) -> None:
    """Remove what was not there before, and bring back what was."""
    now = Tree.of(folder)
    now.remove(before)
    if now.has_aside:
        bring_back(folder)


def _take_reported(file: OutputFile, made: dict[str, Path], taken: Taken) -> None:
    names = [file.name] if file.name in made else _of_sequence(file.name, made)
    for name in names:
        one = replace(file, filename=name.rpartition("/")[2], path=made.pop(name))
        taken.files.append(one)
    if not names:
        taken.missing.append(file)


def _of_sequence(reported: str, found: Iterable[str]) -> list[str]:
    """Return the files of an image sequence, which VideoHelperSuite reports as `name_%03d.png`."""
    parts = re.split(r"%\d*d", reported)
    if len(parts) == 1:
        return []
    pattern = re.compile(r"\d+".join(map(re.escape, parts)))
    return sorted(name for name in found if pattern.fullmatch(name))


def _unreported(name: str) -> OutputFile:
    subfolder, _, filename = name.rpartition("/")
    media_type = by_name(filename)
    kind = kind_of(media_type) if media_type else "files"
    return OutputFile(None, kind, filename, subfolder, "output", media_type)
