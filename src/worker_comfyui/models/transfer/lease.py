"""One of many does a thing, on a file system that they share, until it is done or gone.

Nothing but exclusive creation is relied on: locks of network file systems cannot be trusted. Each
lease is a file with a number; the highest counts. A holder touches its file now and then; one that
was not touched for `STALE_S`, by the watcher's own clock, is taken over by creating the next
number. Should two hold it all the same, they do the same work twice, and no harm.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

BEAT_S = 5.0
STALE_S = 30.0
_POLL_S = 0.2


class Heartbeat:
    """Touches a file until it is stopped."""

    def __init__(self, path: Path, *, beat_s: float = BEAT_S) -> None:
        self._path = path
        self._beat_s = beat_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="model-lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let it end."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._beat_s):
            with suppress(OSError):  # one of several that may fail
                os.utime(self._path)


class Lease:
    """Held by one process at a time; as a context manager, it is released at the end.

    Args:
        folder: Where leases lie.
        name: What it is for: a plain file name.
    """

    def __init__(
        self, folder: Path, name: str, *, beat_s: float = BEAT_S, stale_s: float = STALE_S
    ) -> None:
        self._folder = folder
        self._name = name
        self._beat_s = beat_s
        self._stale_s = stale_s
        self._held: Path | None = None
        self._heart: Heartbeat | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self, waiting: Callable[[], None]) -> None:
        """Wait until it is ours.

        Args:
            waiting: Called often meanwhile; what it raises ends the wait.

        Raises:
            OSError: the folder cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        seen: tuple[Path, float] | None = None
        since = 0.0
        while True:
            found = self._highest()
            if found is None and self._take(1):
                return
            if found is not None:
                if found != seen:
                    seen, since = found, time.monotonic()
                stale = time.monotonic() - since > self._stale_s or is_gone(found[0])
                if stale and self._take(_number(found[0]) + 1):
                    self._remove_older()
                    return
            waiting()
            time.sleep(_POLL_S)

    def release(self) -> None:
        """Let others have it."""
        if self._heart:
            self._heart.stop()
        if self._held:
            self._held.unlink(missing_ok=True)
        self._heart = self._held = None

    def _take(self, number: int) -> bool:
        path = self._folder / f"{self._name}.{number}"
        try:
            with path.open("x", encoding="ascii") as file:
                file.write(json.dumps({"who": me()}))
        except FileExistsError:
            return False
        except FileNotFoundError:  # somebody tidied up
            self._folder.mkdir(parents=True, exist_ok=True)
            return False
        self._held, self._heart = path, Heartbeat(path, beat_s=self._beat_s)
        return True

    def _highest(self) -> tuple[Path, float] | None:
        found = sorted(self._files(), key=_number)
        try:
            return (found[-1], found[-1].stat().st_mtime) if found else None
        except FileNotFoundError:  # it was just released
            return None

    def _remove_older(self) -> None:
        for path in self._files():
            if self._held and _number(path) < _number(self._held):
                path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        prefix = f"{self._name}."
        try:
            names = os.listdir(self._folder)  # noqa: PTH208 - names are enough
        except FileNotFoundError:
            return []
        return [
            self._folder / name
            for name in names
            if name.startswith(prefix) and name[len(prefix) :].isdigit()
        ]


def is_held(folder: Path, name: str, stale_s: float = STALE_S) -> bool:
    """Tell whether anyone seems to hold a lease now: by the file system's clock."""
    found = [p for p in folder.glob(f"{name}.*") if p.suffix[1:].isdigit()]
    return any(not is_gone(path) and age(path, folder) < stale_s for path in found)


def age(path: Path, folder: Path) -> float:
    """Return the seconds since a file was touched, by the clock of its file system.

    Clocks of workers differ, so a file that is touched now says what time it is there. Infinite
    where the file is gone; 0 where nobody can say, as on a full disk: what may be in use is kept.
    """
    now = folder / f".clock-{uuid.uuid4().hex}"
    try:
        touched = path.stat().st_mtime
        now.touch()
        return now.stat().st_mtime - touched
    except FileNotFoundError:
        return float("inf")
    except OSError:
        return 0.0
    finally:
        with suppress(OSError):
            now.unlink(missing_ok=True)


def _number(path: Path) -> int:
    return int(path.suffix[1:])


@functools.cache
def _place() -> str:
    """Name the set of processes in which a process id means something."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - a name, no path
    return f"{socket.gethostname()} {space}"


def me() -> list[str]:
    """Name this process."""
    return [_place(), str(os.getpid()), _started(os.getpid())]


def _started(pid: int) -> str:
    try:
        return (
            # Field 22, counted from behind the name, which may have spaces: proc_pid_stat(5).
            Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[19]
        )
    except (OSError, IndexError):
        return ""


def is_gone(path: Path) -> bool:
    """Tell whether the process that wrote a file is known to be dead."""
    try:
        place, pid, started = json.loads(path.read_text("ascii"))["who"]
        if place != _place():
            return False
        os.kill(int(pid), 0)
        return bool(started) and _started(int(pid)) != started
    except ProcessLookupError:
        return True
    except (OSError, ValueError, LookupError, TypeError):
        return False
