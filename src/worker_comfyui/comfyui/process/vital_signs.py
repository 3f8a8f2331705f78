"""What Linux knows about a running ComfyUI: does it work, has it descriptors, is it its port.

Without /proc, nothing is known, which is None everywhere. Format: proc(5).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_LISTENING = "0A"  # include/net/tcp_states.h


@dataclass(frozen=True, slots=True)
class Activity:
    """How much a process has done so far.

    Attributes:
        cpu_s: Seconds of processor time of all its threads.
        waits_for_disk: Whether one of its threads is inside a disk access right now.
        queued_s: Seconds that its threads, which had work to do, waited for a processor. On a
            machine with much more to do, that is nearly all of their time.
    """

    cpu_s: float
    waits_for_disk: bool
    queued_s: float = 0.0


def activity(session: int) -> Activity | None:
    """Return what the session's processes have done so far."""
    ticks, queued, waits, found = 0, 0.0, False, False
    for pid in _members(session):
        fields = _stat(PROC / str(pid) / "stat")
        if fields:
            found = True
            ticks += int(fields[11]) + int(fields[12])  # utime, stime
            queued += queued_s(pid)
            waits = waits or _waits_for_disk(pid)
    return Activity(ticks / os.sysconf("SC_CLK_TCK"), waits, queued) if found else None


def descriptors_left(session: int) -> int | None:
    """Return how many more files the session's main process may open.

    That is asked after each job, so it does not look at all processes of the machine.
    """
    try:
        children = (PROC / str(session) / "task" / str(session) / "children").read_text().split()
    except OSError:
        return None
    # The first child of the launcher; later ones are orphans that came to it.
    return _room(int(children[0])) if children else None


def listens(session: int, port: int) -> bool | None:
    """Tell whether it is the session's processes that listen on the port; None: not known."""
    listeners = set(_listening_sockets(port))
    if not listeners:
        return None
    try:
        held = {link for pid in _members(session) for link in _descriptors(pid)}
    except PermissionError:  # ComfyUI may run as somebody else
        return None
    return not listeners.isdisjoint(held)


def queued_s(pid: int) -> float:
    """Return how long a process's threads waited for a processor; 0 where nobody counts it.

    Source: https://docs.kernel.org/scheduler/sched-stats.html, `/proc/<pid>/schedstat`
    """
    nanoseconds = 0
    for task in (PROC / str(pid) / "task").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            nanoseconds += int((task / "schedstat").read_text().split()[1])
    return nanoseconds / 1e9


def _members(session: int) -> list[int]:
    if sys.platform != "linux":
        return []
    found = []
    for entry in PROC.glob("[0-9]*"):
        fields = _stat(entry / "stat")
        # `session`; its leader is the launcher, which only waits.
        if fields and int(fields[3]) == session and int(entry.name) != session:
            found.append(int(entry.name))
    return found


def _stat(path: Path) -> list[str]:
    """Return the fields from the third on: a name may contain anything."""
    try:
        return path.read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _waits_for_disk(pid: int) -> bool:
    tasks = (PROC / str(pid) / "task").glob("[0-9]*")
    return any(_stat(task / "stat")[:1] == ["D"] for task in tasks)


def _room(pid: int) -> int | None:
    folder = PROC / str(pid)
    try:
        limits = (folder / "limits").read_text()
        soft = limits.partition("Max open files")[2].split(maxsplit=1)[0]
        # Since Linux 6.2 the size is their number (fs/proc/fd.c, proc_fd_getattr); before it is 0.
        opened = (folder / "fd").stat().st_size or len(list((folder / "fd").iterdir()))
        return int(soft) - opened
    except (OSError, LookupError, ValueError):  # it has ended, or `unlimited`
        return None


def _descriptors(pid: int) -> Iterator[str]:
    with suppress(FileNotFoundError):
        for entry in (PROC / str(pid) / "fd").iterdir():
            with suppress(FileNotFoundError):
                yield str(entry.readlink())


def _listening_sockets(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()  # local_address is the 2nd, st the 4th, inode the 10th
            if words[3] == _LISTENING and int(words[1].rpartition(":")[2], 16) == port:
                yield f"socket:[{words[9]}]"
