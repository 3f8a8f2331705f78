"""Progress to the platform: in order, at most one update a second, none after the result.

The SDK's own `progress_update` starts a thread for each update, so they arrive in any order, and a
late one turns a finished job back into one in progress
(https://github.com/runpod/runpod-python/issues/250).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from worker_comfyui.comfyui.tracking import Update

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
LAST_SEND_S = 10.0

Send = Callable[[Update], Awaitable[None]]


class ProgressSender:
    """Sends the newest update of one job. `report` may be called from any thread.

    When the block ends, nothing more is sent, and nothing is still on its way.
    """

    def __init__(self, send: Send, *, interval_s: float = INTERVAL_S) -> None:
        self._send = send
        self._interval_s = interval_s
        self._loop = asyncio.get_running_loop()
        self._newest: Update | None = None
        self._waits = False
        self._wake = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()
        if self._task:
            await asyncio.wait({self._task})
        if self._sending:
            # It must land before the result, or not at all. Cut off, it may still land later.
            await asyncio.wait({self._sending}, timeout=LAST_SEND_S)
            self._sending.cancel()
            with suppress(asyncio.CancelledError):
                await self._sending

    def stop(self) -> None:
        """Begin to send no more, already before the block ends."""
        if self._task:
            self._task.cancel()

    def report(self, update: Update) -> None:
        """Take an update; an older one that was not sent yet is dropped."""
        self._newest = update
        if self._waits:
            with suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(self._wake.set)

    async def _run(self) -> None:
        sent: Update | None = None
        while True:
            self._wake.clear()
            self._waits = True  # before the look: what comes after it finds this set
            if self._newest is None or self._newest == sent:
                await self._wake.wait()
                continue
            # Not woken while it rests: nodes may make a thousand updates a second.
            self._waits = False
            sent = self._newest
            self._sending = asyncio.create_task(self._try(sent))
            await asyncio.shield(self._sending)
            self._sending = None
            await asyncio.sleep(self._interval_s)

    async def _try(self, update: Update) -> None:
        try:
            await self._send(update)
        except Exception as error:  # noqa: BLE001  # progress is a courtesy: no job fails for it
            log.warning("progress could not be sent: %s", error)
