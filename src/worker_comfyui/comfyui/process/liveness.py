"""Whether a ComfyUI that gives no answer is frozen, or only busy. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from worker_comfyui.comfyui.process.vital_signs import Activity

BUSY_CORES = 0.1
"""It works where it takes, or could take, this much of a processor. One that waits for a lock
takes none."""
BUSY_FACTOR = 10
"""One that works, but gives no answer for so many times the limit, is given up all the same."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at ComfyUI showed.

    Attributes:
        at_s: When, in seconds of any clock.
        answered: Whether it answered by HTTP.
        activity: What its processes had done by then; None: not known, or it answered anyway.
    """

    at_s: float
    answered: bool
    activity: Activity | None = None


class Liveness:
    """Follows the looks at one ComfyUI.

    A node that holds Python's lock, or a workflow with large previews, keeps ComfyUI's only event
    loop from answering for minutes, while all is well. So one that works is not frozen.

    Silence is counted from a failed look, not from the last answer: where the platform freezes the
    whole worker and thaws it later (FlashBoot), nobody was silent.

    Args:
        limit_s: Seconds without an answer and without any work after which it is frozen.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._silent_since: float | None = None
        self._idle_since: float | None = None
        self._last: Look | None = None

    def frozen_after(self, look: Look) -> float | None:
        """Take the next look; return the seconds of silence if it is frozen, else None."""
        last, self._last = self._last, look
        if look.answered:
            self._silent_since = self._idle_since = None
            return None
        if self._silent_since is None or self._idle_since is None:
            self._silent_since = self._idle_since = look.at_s
        elif _works(last, look):
            self._idle_since = look.at_s
        silent_s = look.at_s - self._silent_since
        idle_s = look.at_s - self._idle_since
        is_frozen = idle_s > self._limit_s or silent_s > self._limit_s * BUSY_FACTOR
        return silent_s if is_frozen else None


def _works(last: Look | None, look: Look) -> bool:
    if last is None or last.activity is None or look.activity is None:
        return False
    # A thread that waits for a processor has work to do: others of the machine keep it from it.
    wanted_s = look.activity.cpu_s + look.activity.queued_s
    wanted_s -= last.activity.cpu_s + last.activity.queued_s
    cores = wanted_s / max(look.at_s - last.at_s, 0.001)
    return look.activity.waits_for_disk or cores >= BUSY_CORES
