"""The platform's temporary folder, in which each worker has one of its own.

It is held by a lock for as long as the platform lives. So the next platform to start knows, also
after a SIGKILL and when the process id is in use again, which folders nobody needs any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

PREFIX = "local-runpod-"
LOCK = "platform.lock"


@contextmanager
def platform_folder() -> Iterator[Path]:
    """Make the folder, and remove it in the end; folders of platforms that were killed go too."""
    sweep()
    # Under another name until it is locked: nobody must take it for a forgotten one.
    hidden = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))
    with (hidden / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = hidden.rename(hidden.with_name(hidden.name.removeprefix(".")))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def sweep() -> None:
    """Remove the folders of this user's platforms that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / LOCK).open("r+") as lock:
                if _is_free(lock):
                    shutil.rmtree(folder)
                    log.info("removed %s of a platform that was killed", folder)


def _is_free(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
