"""How much memory is free for the page cache: of the machine, and of this container."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")
V1 = Path("memory")
NO_LIMIT = 1 << 60


def free_bytes(proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """Return how many bytes can be read into the page cache before memory is short.

    Pages of files count towards a container's limit, but can be given up again: those that are
    not in use are taken as free.
    """
    return max(0, min(_machine(proc), _container_v2(cgroup), _container_v1(cgroup / V1)))


def _machine(proc: Path) -> int:
    values = _values(proc / "meminfo")
    available = values.get("MemAvailable:")
    return NO_LIMIT if available is None else available * 1024


def _container_v2(cgroup: Path) -> int:
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    if limit is None or used is None:
        return NO_LIMIT
    return limit - used + _values(cgroup / "memory.stat").get("inactive_file", 0)


def _container_v1(cgroup: Path) -> int:
    limit = _number(cgroup / "memory.limit_in_bytes")
    used = _number(cgroup / "memory.usage_in_bytes")
    # Without a limit cgroup v1 says nearly 2**63.
    if limit is None or used is None or limit >= NO_LIMIT:
        return NO_LIMIT
    return limit - used + _values(cgroup / "memory.stat").get("total_inactive_file", 0)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):  # "max" is no limit
        return None


def _values(path: Path) -> Mapping[str, int]:
    try:
        rows = [line.split() for line in path.read_text("ascii").splitlines()]
    except (OSError, ValueError):
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
