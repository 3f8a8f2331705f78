"""A cold and slow disk, for benchmarks: what is read does not come from memory, and not faster."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
SAMPLES = 100


def make_cold(path: Path) -> None:
    """Take a file out of the page cache.

    Raises:
        RuntimeError: this file system keeps its pages.
    """
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if (share := cached_share(path)) > 0.05:
        raise RuntimeError(f"{share:.0%} of {path} stay in memory: choose another --folder")


def cached_share(path: Path) -> float:
    """Tell how much of a file is in the page cache, by what can be read without the disk."""
    size, found = path.stat().st_size, 0
    with path.open("rb") as file:
        for _ in range(SAMPLES):
            offset = random.randrange(size)  # noqa: S311 - asking fetches the page for next time
            with suppress(BlockingIOError):
                found += os.preadv(file.fileno(), [bytearray(1)], offset, os.RWF_NOWAIT)
    return found / SAMPLES


@contextmanager
def throttled(folder: Path, bytes_per_s: int) -> Iterator[bool]:
    """Let this process, and what it starts, read from a folder's disk no faster than this.

    By the kernel's control groups, which only root may use, and only for a disk of its own (not
    for an overlay).

    Yields:
        Whether it is so; if not, the disk is as it is.
    """
    before = _own_group()
    group = _made_group(_disk(folder), bytes_per_s)
    if group is None:
        yield False
        return
    try:
        _enter(group)
        yield True
    finally:
        _enter(before)
        with suppress(OSError):  # what still ends there keeps it
            group.rmdir()


def _disk(folder: Path) -> str:
    """Name the whole disk of a folder, as `MAJOR:MINOR`."""
    device = folder.stat().st_dev
    entry = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    if (entry / "partition").exists():
        entry = entry.parent
    try:
        return (entry / "dev").read_text().strip()
    except OSError:
        return ""


def _made_group(disk: str, bytes_per_s: int) -> Path | None:
    """Make a group with this limit, by either version of control groups; None: it cannot be."""
    name = f"worker-benchmark-{os.getpid()}"
    for root, file, text in (
        (CGROUPS / "blkio", "blkio.throttle.read_bps_device", f"{disk} {bytes_per_s}"),
        (CGROUPS, "io.max", f"{disk} rbps={bytes_per_s}"),
    ):
        if not disk or not (root / "cgroup.procs").exists():
            continue
        group = root / name
        try:
            if file == "io.max":
                (root / "cgroup.subtree_control").write_text("+io")
            group.mkdir()
            (group / file).write_text(text)
        except OSError:
            with suppress(OSError):
                group.rmdir()
            continue
        return group
    return None


def _own_group() -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "blkio" in controllers.split(","):
            return CGROUPS / "blkio" / path.lstrip("/")
        if not controllers and (CGROUPS / "cgroup.controllers").exists():
            return CGROUPS / path.lstrip("/")
    return CGROUPS


def _enter(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))
