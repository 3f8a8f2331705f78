"""Folders that ComfyUI has to itself: its input, output and temp folders, for one of its runs.

Two workers on one ComfyUI would meet in its own folders: one would return the other's pictures. And
what a worker that was killed has left there would be found by the next one's callers.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from worker_comfyui.comfyui.process.aside import recover
from worker_comfyui.comfyui.process.command import FolderFlags, Folders

log = logging.getLogger(__name__)

PREFIX = "worker-comfyui-"
MARK = "a worker's own folder, removed when it ends"
"""A file in it: anybody may call a folder something like that."""
MAX_COPIED_BYTES = 1_000_000_000
MAX_COPIED_FILES = 10_000


class TooMuch(Exception):
    """An input folder is too large to be copied."""


class OwnFolders:
    """The folder of one worker, below which everything is its own. It is removed at the end.

    It is locked as long as the process lives, so the next worker on this machine sees which folders
    nobody uses any more, however their workers ended.
    """

    def __init__(self) -> None:
        self._root: Path | None = None
        self._root_lock: int | None = None
        self._run: Path | None = None
        self._claims: dict[str, tuple[Path, int]] = {}

    @property
    def scratch(self) -> Path:
        """Where jobs keep their files. Moving an output file there is a rename.

        Raises:
            OSError: it cannot be made.
        """
        scratch = self._made_root() / "jobs"
        scratch.mkdir(exist_ok=True)
        return scratch

    def prepare(self, original: Folders, flags: FolderFlags) -> Folders:
        """Make the folders for the next run of ComfyUI.

        A folder that the operator names by a flag is used as it is, unless another worker uses it
        or it lies in or around another of the three, and is this worker's until the end. What lies
        in ComfyUI's own input folder is copied: newer versions refuse a link that leads elsewhere
        (folder_paths.py, `is_within_directory`).

        Args:
            original: Where ComfyUI's folders would be.
            flags: Which of them the operator names.

        Raises:
            OSError: they cannot be made.
        """
        self._release()
        self._run = Path(tempfile.mkdtemp(prefix="run-", dir=self._made_root()))
        made = (
            self._input(self._run / "input", original.input, named=flags.input),
            self._folder(self._run / "output", original.output, named=flags.output),
            self._folder(self._run / "temp", original.temp, named=flags.temp),
        )
        private = frozenset(folder for folder in made if folder.parent == self._run)
        return Folders(*made, private=private)

    def sweep(self) -> None:
        """Remove the folders of workers that were killed."""
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            # Only with the mark: what is in /tmp under such a name need not be a worker's.
            if folder == self._root or not _is_a_worker_s(folder):
                continue
            with suppress(OSError):  # another worker sweeps as well
                if (lock := _lock(folder)) is None:
                    continue
                log.info("removing %s, which a worker that was killed has left", folder)
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)

    def close(self) -> None:
        """Remove everything."""
        self._release()
        while self._claims:
            _, (_, lock) = self._claims.popitem()
            os.close(lock)
        if self._root:
            shutil.rmtree(self._root, ignore_errors=True)
            self._root = None
        if self._root_lock is not None:
            os.close(self._root_lock)
            self._root_lock = None

    def _release(self) -> None:
        if self._run:
            shutil.rmtree(self._run, ignore_errors=True)
            self._run = None

    def _made_root(self) -> Path:
        if self._root is None:
            unnamed = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))
            # Locked before it has its name: a sweep would take it for left.
            self._root_lock = _lock(unnamed)
            (unnamed / MARK).touch()
            self._root = unnamed.rename(unnamed.with_name(unnamed.name.removeprefix(".")))
        return self._root

    def _input(self, own: Path, original: Path, *, named: bool) -> Path:
        if not named and not original.is_symlink():
            try:
                _copy(original, own)
            except TooMuch as reason:
                shutil.rmtree(own, ignore_errors=True)
                log.warning("%s is used as it is: it %s", original, reason)
            else:
                return own
        if self._claim(original, own.name):
            return original
        try:
            _copy(original, own)
        except TooMuch as reason:
            raise OSError(f"{original} is used by another worker, and it {reason}") from reason
        return own

    def _folder(self, own: Path, original: Path, *, named: bool) -> Path:
        if named and self._claim(original, own.name):
            return original
        own.mkdir()
        return own

    def _claim(self, folder: Path, name: str) -> bool:
        """Take a folder that others may know, as ComfyUI's folder of that name."""
        try:
            others = [place for other, (place, _) in self._claims.items() if other != name]
            if any(_are_nested(folder, other) for other in others):
                log.warning(
                    "%s lies in or around another of ComfyUI's; this worker uses its own", folder
                )
                return False
            folder.mkdir(parents=True, exist_ok=True)
            if name in self._claims:  # a job that has lost its ComfyUI clears up there by itself
                return True
            lock = _lock(folder)
        except OSError as error:
            log.warning("%s cannot be used: %s; this worker uses its own", folder, error)
            return False
        if lock is None:
            log.warning("another worker uses %s; this one uses its own", folder)
            return False
        self._claims[name] = (folder, lock)
        # A worker may have been killed in the middle of a job.
        recover(folder, is_input=name == "input")
        return True


def _are_nested(one: Path, other: Path) -> bool:
    one, other = one.resolve(), other.resolve()
    return one.is_relative_to(other) or other.is_relative_to(one)


def _is_a_worker_s(folder: Path) -> bool:
    try:
        is_own = folder.lstat().st_uid == os.geteuid()
    except FileNotFoundError:
        return False
    return is_own and not folder.is_symlink() and (folder / MARK).is_file()


def _lock(folder: Path) -> int | None:
    """Lock a folder; return its descriptor, or None where another process holds the lock.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:  # a network file system without locks: nobody can know
        log.warning("%s cannot be locked: %s", folder, error)
    return descriptor


def _copy(source: Path, target: Path) -> None:
    """Copy a folder with its files, also those that are links; folders that are links stay links.

    Raises:
        TooMuch: that would take long.
        OSError: there is no space for it.
    """
    target.mkdir()
    files = size = 0
    for path, folders, names in os.walk(source):
        there = target / Path(path).relative_to(source)
        for name in folders:
            _copy_folder(Path(path) / name, there / name)
        for name in names:
            files += 1
            size += _copy_file(Path(path) / name, there / name)
            if size > MAX_COPIED_BYTES or files > MAX_COPIED_FILES:
                raise TooMuch(
                    f"has more than {MAX_COPIED_FILES} files or {MAX_COPIED_BYTES} bytes to copy"
                )


def _copy_folder(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.resolve())
    else:
        target.mkdir()


def _copy_file(source: Path, target: Path) -> int:
    """Copy a file; return its size. What cannot be read is left out: ComfyUI cannot read it."""
    if not source.is_file():
        return 0
    size = source.stat().st_size
    if size > MAX_COPIED_BYTES:
        return size
    try:
        shutil.copy2(source, target)
    except PermissionError as error:
        log.warning("%s is left out: %s", source, error)
    return size
