"""Wakes the tasks that wait for a change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Bell:
    """A change that several tasks can wait for; one event loop only."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        """Wake everyone who waits now."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until the condition holds, looking again at every ring.

        Returns:
            Whether it held before the timeout.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not condition():
            remaining = deadline - loop.time()
            if remaining <= 0:
                return False
            future = loop.create_future()
            self._waiting.add(future)
            try:
                await asyncio.wait([future], timeout=remaining)
            finally:
                self._waiting.discard(future)
        return True
