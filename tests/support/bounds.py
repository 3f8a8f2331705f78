"""What a property test holds each of its examples to: time, memory, and an answer with a code.

`TEST_EXAMPLES` multiplies the number of examples: without it they are the same in each run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from worker_comfyui.comfyui.process import vital_signs

TIMES = int(os.environ.get("TEST_EXAMPLES", "1"))
MEGA = 1_000_000


def examples(count: int) -> int:
    """How many examples a test takes that has `count` of them in CI."""
    return count * TIMES


def peak_bytes(pid: int) -> int:
    """The most memory that a process had since `forget_peaks`; 0 where nobody knows (macOS)."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def queued_s() -> float:
    """How long this process's threads waited for a processor that others of the machine had."""
    return vital_signs.queued_s(os.getpid())


def forget_peaks() -> None:
    """Let the peaks of this process and its children begin where they are now: proc(5)."""
    for pid in _family():
        with suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def _family() -> list[int]:
    own = psutil.Process()
    return [own.pid, *(child.pid for child in own.children(recursive=True))]


def _name(pid: int) -> str:
    with suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline())
    return "a process that has ended"


@dataclass
class Bounds:
    """Measures examples, and says at the end how close they came.

    Attributes:
        seconds: How long one may take, beside the wait for a processor on a busy machine.
        more_bytes: How much more memory than at the start this process may have meanwhile.
        child_bytes: How much memory any process below it may have.
    """

    seconds: float
    more_bytes: int
    child_bytes: int
    count: int = 0
    slowest_s: float = 0.0
    most_bytes: int = 0
    most_child_bytes: int = 0

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Fail where the block takes more than it may."""
        forget_peaks()
        before = peak_bytes(os.getpid())
        started, queued = time.monotonic(), queued_s()
        yield
        took = time.monotonic() - started
        kept_waiting = max(0.0, queued_s() - queued)
        more = peak_bytes(os.getpid()) - before
        child, which = max(
            ((peak_bytes(pid), _name(pid)) for pid in _family()[1:]), default=(0, "")
        )
        self.count += 1
        self.slowest_s = max(self.slowest_s, took)
        self.most_bytes = max(self.most_bytes, more)
        self.most_child_bytes = max(self.most_child_bytes, child)
        assert took - kept_waiting < self.seconds
        assert more < self.more_bytes
        assert child < self.child_bytes, which

    def __str__(self) -> str:
        return (
            f"{self.count} examples, the slowest {self.slowest_s:.2f} s, at most "
            f"{self.most_bytes / MEGA:.0f} MB more in the worker and "
            f"{self.most_child_bytes / MEGA:.0f} MB in a process of its"
        )


def assert_answered(result: dict[str, Any]) -> None:
    """Check that a job's answer is one: strict JSON, and no failure of the worker's own."""
    text = json.dumps(result, ensure_ascii=False, allow_nan=False).encode()
    assert result.get("error_code") != "INTERNAL_ERROR", text[:2000]
    if "error" in result:
        assert result["error"].startswith(f"{result['error_code']}: ")
        assert len(text) <= 70_000
