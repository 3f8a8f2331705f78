"""Why a job should stop early: the platform cancelled it, or its deadline passed.

There is one deadline for all that a job does. It counts from the moment in which the job was taken,
and when it passes, the error says what the job did with its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from worker_comfyui.errors import TimedOut

TICK_S = 0.05
_DOING = {
    "inputs": "read its inputs",
    "models": "fetched its models",
    "wait": "waited for its turn",
    "execution": "ran the workflow",
    "delivery": "delivered its files",
}


class JobCancelled(Exception):
    """The platform stopped the job. Nobody waits for a result any more."""


class Stop:
    """Asked regularly by everything that may take long. Safe to use from any thread."""

    def __init__(self, cancelled: Callable[[], bool]) -> None:
        """Start the clock; there is no deadline yet."""
        self.cancelled = cancelled
        self._started = time.monotonic()
        self._timeout_s = float("inf")
        self._phases: list[tuple[str, float]] = []

    def limit(self, timeout_s: float) -> None:
        """Let the deadline be `timeout_s` seconds after the clock was started."""
        self._timeout_s = timeout_s

    def phase(self, name: str) -> None:
        """Count the time from now on for this part of the job, and no longer for the last one."""
        self._phases.append((name, time.monotonic()))

    @property
    def timings(self) -> dict[str, int]:
        """Milliseconds of each phase, as `inputs_ms`, and of the whole, as `total_ms`."""
        now = time.monotonic()
        spent = {f"{name}_ms": round(1000 * seconds) for name, seconds in self._spent(now).items()}
        return {**spent, "total_ms": round(1000 * (now - self._started))}

    def left(self) -> float:
        """Return the seconds until the deadline; below 0 after it."""
        return self._started + self._timeout_s - time.monotonic()

    def is_due(self) -> bool:
        """Tell whether to stop now."""
        return self.cancelled() or self.left() < 0

    def check(self) -> None:
        """Raise if it is time to stop.

        Raises:
            JobCancelled: the platform cancelled the job.
            TimedOut: the deadline passed.
        """
        if self.cancelled():
            raise JobCancelled
        if self.left() < 0:
            raise TimedOut(self._late())

    def wait(self, seconds: float) -> None:
        """Wait, but not longer than until it is time to stop.

        Raises:
            JobCancelled, TimedOut: as `check`.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(TICK_S, left))
        self.check()

    def within(self, seconds: float, late: Callable[[], Exception]) -> Stop:
        """Make a stop for a part of the job that has a deadline of its own.

        Args:
            seconds: From now.
            late: Makes the error that `check` raises once they have passed.
        """
        return _Within(self, seconds, late)

    def unless(self, given_up: Callable[[], bool]) -> Stop:
        """Make a stop for a part of the job that others may give up; it then counts as cancelled.

        Args:
            given_up: Asked as often as the stop itself.
        """
        part = _Within(self, float("inf"), JobCancelled)
        part.cancelled = lambda: given_up() or self.cancelled()
        return part

    def _spent(self, now: float) -> dict[str, float]:
        spent: dict[str, float] = {}
        ends = [start for _, start in self._phases[1:]] + [now]
        for (name, start), end in zip(self._phases, ends, strict=True):
            spent[name] = spent.get(name, 0.0) + end - start
        return spent

    def _late(self) -> str:
        text = f"the job reached its deadline of {self._timeout_s:g} s"
        if not self._phases:
            return text
        name = self._phases[-1][0]
        spent = self._spent(time.monotonic())
        shares = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in spent.items())
        return f"{text} while it {_DOING.get(name, f'was busy with its {name}')} ({shares})"


class _Within(Stop):
    """A part of a job: it stops with the job, or earlier."""

    def __init__(self, whole: Stop, seconds: float, late: Callable[[], Exception]) -> None:
        super().__init__(whole.cancelled)
        self._whole = whole
        self._own_late = late
        self.limit(seconds)

    def left(self) -> float:
        return min(super().left(), self._whole.left())

    def check(self) -> None:
        if self.cancelled():
            raise JobCancelled
        # The whole first: what ends with its job is not late by itself.
        self._whole.check()
        if self.left() < 0:
            raise self._own_late()
