"""Follows one prompt to its end.

The websocket only wakes: ComfyUI repeats nothing that was missed. History is the truth; it is
asked on the final event, on every reconnect, and after a while without any event.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from worker_comfyui.comfyui import events
from worker_comfyui.comfyui.client import BadAnswer
from worker_comfyui.comfyui.event_stream import Disconnected
from worker_comfyui.comfyui.link import Link
from worker_comfyui.config import Settings
from worker_comfyui.errors import ComfyCrashed, ComfyUnavailable, ExecutionFailed

log = logging.getLogger(__name__)

TICK_S = 0.25
SETTLE_S = 0.25
STORED = events.Ended(stored=True)
ENDED_POLL_S = 0.05


class _Reconnects:
    """When a lost websocket is opened again: soon, then with a pause, so many times."""

    def __init__(self, settings: Settings) -> None:
        self._left = settings.websocket_reconnect_attempts
        self._pause_s = settings.websocket_reconnect_delay_s
        self._not_before = 0.0

    def was_lost(self) -> None:
        """Leave ComfyUI a moment to see it as well: see `Link.connect` on ids that are reused."""
        self._not_before = time.monotonic() + min(SETTLE_S, self._pause_s)

    def take_one(self) -> bool:
        """Tell whether to try now; counts as a try."""
        now = time.monotonic()
        if now < self._not_before or self._left == 0:
            return False
        self._left -= 1
        self._not_before = now + self._pause_s
        return True


class _NextLook:
    """When history is to be asked again."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._at = time.monotonic() + every_s
        self._ended = False

    @property
    def seconds(self) -> float:
        """How long it is until then; 0: now."""
        return max(0.0, self._at - time.monotonic())

    def something_happened(self) -> None:
        """Put it off: events come, so nothing was missed."""
        if not self._ended:
            self._at = time.monotonic() + self._every_s

    def may_have_missed_something(self) -> None:
        """Look now."""
        self._at = time.monotonic()

    def it_ended(self, *, stored: bool) -> None:
        """Look now, or soon where the entry may not be stored yet; and often until it is there."""
        self._ended = True
        self._at = time.monotonic() + (0 if stored else TICK_S)

    def looked(self) -> None:
        """Wait for the next one."""
        self._at = time.monotonic() + (ENDED_POLL_S if self._ended else self._every_s)


class Follower:
    """Follows one prompt of one link.

    Attributes:
        blocked: Branches that a node stopped with a message.
        was_cut: Whether the websocket was lost meanwhile, and with it what came over it.
        current: The node that ComfyUI turned to last; None: none yet.
        is_last: Whether ComfyUI is known to have nothing more to run.
    """

    def __init__(
        self,
        link: Link,
        prompt_id: str,
        settings: Settings,
        on_event: Callable[[events.Event], None],
        at_rest: Callable[[], None],
    ) -> None:
        self.blocked: list[events.BranchBlocked] = []
        self.was_cut = False
        self._link = link
        self._prompt_id = prompt_id
        self._on_event = on_event
        self._reconnects = _Reconnects(settings)
        self._look = _NextLook(settings.poll_interval_s)
        self.current: str | None = None
        self.is_last = False
        self._at_rest = at_rest
        self._went_well = False

    def to_the_end(self, check: Callable[[], None]) -> dict[str, Any]:
        """Return the prompt's history entry, once it is there.

        Args:
            check: Called often; raises when there is nothing to wait for any more.

        Raises:
            ExecutionFailed: it ended, but ComfyUI cannot say how.
            ComfyCrashed: ComfyUI forgot the prompt.
        """
        while True:
            check()
            self._wait()
            if self._look.seconds == 0 and (entry := self._ask()) is not None:
                return entry

    def _wait(self) -> None:
        """Wait for the next event, at most until the next look."""
        if self._link.stream is None and self._reconnects.take_one():
            self._link.reconnect()
            self._look.may_have_missed_something()
        pause = min(TICK_S, self._look.seconds)
        if self._link.stream is None:
            time.sleep(pause)
            return
        try:
            frame = self._link.stream.receive(pause)
        except Disconnected as error:
            log.warning("websocket lost: %s; asking history meanwhile", str(error))
            self.was_cut = True
            self.is_last = False
            self._link.disconnect()
            self._reconnects.was_lost()
            self._look.may_have_missed_something()
            return
        event = None if frame is None else events.parse(frame, self._prompt_id)
        if event is not None:
            self._take(event)

    def _take(self, event: events.Event) -> None:
        if isinstance(event, events.QueueLength):
            self.is_last = event.prompts == 0
            return
        if isinstance(event, events.Picture):
            node_id = event.node_id or self.current
            if node_id is None:  # nothing of this prompt runs yet: it is of the one before
                return
            event = replace(event, node_id=node_id)
        self._look.something_happened()
        if isinstance(event, events.NodeStarted):
            self.current = event.node_id
        elif isinstance(event, events.BranchBlocked):
            self.blocked.append(event)
        elif isinstance(event, events.Ended):
            self._look.it_ended(stored=event.stored)
            self._went_well = self._went_well or event.well
        self._on_event(event)
        if event == STORED and self._went_well and self.is_last:
            self._rest()

    def _rest(self) -> None:
        try:
            self._link.client.ask_history(self._prompt_id)
        except ComfyUnavailable as error:
            log.warning(str(error))
        self._at_rest()

    def _ask(self) -> dict[str, Any] | None:
        """Ask history. What does not answer is left to the supervisor, which sees it as well."""
        self._look.looked()
        try:
            # It may end between the first two questions, hence the third.
            entry = self._history()
            if entry is not None or self._link.client.is_queued(self._prompt_id):
                return entry
            entry = self._history()
        except ComfyUnavailable as error:
            log.warning(str(error))
            return None
        if entry is None:
            raise ComfyCrashed("ComfyUI no longer knows the prompt, as if it had been restarted")
        return entry

    def _history(self) -> dict[str, Any] | None:
        try:
            return self._link.client.history(self._prompt_id)
        except BadAnswer as error:  # a prompt that has not ended has no entry to be wrong
            raise ExecutionFailed(
                f"the workflow has ended, but ComfyUI cannot report what it made ({error}); "
                "a node may have returned something that is not JSON"
            ) from error
