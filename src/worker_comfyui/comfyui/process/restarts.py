"""How often ComfyUI is started again, and after which pause. Pure."""

from __future__ import annotations

MAX_BACK_OFF_S = 30.0


class Restarts:
    """Counts the restarts since the last workflow that ended.

    Args:
        limit: Restarts that may fail to help.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.count = 0

    @property
    def are_used_up(self) -> bool:
        """Whether another one is pointless."""
        return self.count >= self._limit

    def next_pause_s(self) -> float:
        """Count one more; return the seconds to wait before it. The first is at once."""
        self.count += 1
        return min(2.0 ** (self.count - 1) - 1, MAX_BACK_OFF_S)

    def forget(self) -> None:
        """Note that a workflow ended, well or badly: ComfyUI works."""
        self.count = 0
