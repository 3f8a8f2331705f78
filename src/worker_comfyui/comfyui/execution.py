"""Runs one prompt to its end: submits it, follows it, and stops it when it must stop.

The websocket only wakes: ComfyUI repeats nothing that was missed. History is the truth; it is
asked on the final event, on every reconnect, and after a while without any event.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from worker_comfyui.comfyui import events
from worker_comfyui.comfyui.client import (
    BadAnswer,
    ComfyClient,
    Disconnected,
    EventStream,
    PromptRefused,
)
from worker_comfyui.comfyui.supervisor import Incarnation, Supervisor
from worker_comfyui.config import Settings
from worker_comfyui.errors import ComfyCrashed, ComfyUnavailable, ExecutionFailed
from worker_comfyui.job import Workflow
from worker_comfyui.stop import Stop

log = logging.getLogger(__name__)

TICK_S = 0.25
ENDED_POLL_S = 0.05
POLL_TIMEOUT_S = 5.0


@dataclass(slots=True)
class Executed:
    """How a prompt went.

    Attributes:
        entry: Its history entry.
        node_errors: Of outputs that ComfyUI left out because they were not valid.
        blocked: Branches that a node stopped with a message.
    """

    entry: dict[str, Any]
    node_errors: dict[str, Any]
    blocked: list[events.BranchBlocked]


@dataclass(slots=True)
class _Followed:
    """What is known of the running prompt."""

    next_poll: float
    blocked: list[events.BranchBlocked] = field(default_factory=list)


class Execution:
    """One run of one workflow on one incarnation of ComfyUI."""

    def __init__(
        self,
        settings: Settings,
        supervisor: Supervisor,
        incarnation: Incarnation,
        stop: Stop,
        on_event: Callable[[events.Event], None],
    ) -> None:
        self.prompt_id = str(uuid.uuid4())
        self._settings = settings
        self._supervisor = supervisor
        self._incarnation = incarnation
        self._stop = stop
        self._on_event = on_event
        self._client_id = uuid.uuid4().hex
        self._stream: EventStream | None = None
        self._reconnects = 0

    def run(self, workflow: Workflow, extra_data: dict[str, Any]) -> Executed:
        """Submit the workflow and follow it to its end, good or bad.

        Raises:
            PromptRefused: ComfyUI does not run it.
            JobCancelled, TimedOut: it was stopped; ComfyUI no longer runs it.
            ExecutionFailed: it ended, but ComfyUI cannot say how.
            ComfyCrashed: ComfyUI died, froze, or forgot the prompt.
            ComfyUnavailable: it could not be submitted.
        """
        address = self._incarnation.address
        with ExitStack() as stack:
            # Validation may list model folders on a network volume, which takes its time.
            patience = self._settings.comfy_hang_timeout_s
            submitter = stack.enter_context(ComfyClient(address, timeout_s=patience))
            client = stack.enter_context(ComfyClient(address, timeout_s=POLL_TIMEOUT_S))
            stack.callback(self._disconnect)
            self._connect()
            try:
                node_errors = submitter.queue_prompt(
                    workflow,
                    prompt_id=self.prompt_id,
                    client_id=self._client_id,
                    extra_data=extra_data,
                )
                log.info("prompt queued", extra={"event": "prompt_queued"})
                followed = _Followed(time.monotonic() + self._settings.poll_interval_s)
                entry = self._follow(client, followed)
            except PromptRefused:
                raise
            except BaseException:
                self._end(client)
                raise
        return Executed(entry, node_errors, followed.blocked)

    def _connect(self) -> None:
        try:
            self._stream = EventStream(self._incarnation.address, self._client_id)
        except Disconnected as error:
            log.warning("no websocket to ComfyUI: %s", str(error))

    def _disconnect(self) -> None:
        if self._stream:
            self._stream.close()
        self._stream = None

    def _follow(self, client: ComfyClient, followed: _Followed) -> dict[str, Any]:
        reconnect_at = time.monotonic() + self._settings.websocket_reconnect_delay_s
        while True:
            self._stop.check()
            if ended := self._supervisor.failure(self._incarnation):
                raise ComfyCrashed(ended.reason)
            if self._stream is None and self._may_reconnect(reconnect_at):
                self._connect()
                reconnect_at = time.monotonic() + self._settings.websocket_reconnect_delay_s
                followed.next_poll = 0  # what happened meanwhile is only in history
            try:
                self._wait(followed)
            except Disconnected as error:
                log.warning("websocket lost: %s; asking history meanwhile", str(error))
                self._disconnect()
                reconnect_at = time.monotonic()
                followed.next_poll = 0
            if time.monotonic() >= followed.next_poll and (entry := self._poll(client, followed)):
                return entry

    def _may_reconnect(self, at: float) -> bool:
        if time.monotonic() < at or self._reconnects >= self._settings.websocket_reconnect_attempts:
            return False
        self._reconnects += 1
        return True

    def _wait(self, followed: _Followed) -> None:
        """Wait for the next event, at most until the next poll is due."""
        pause = max(0.001, min(TICK_S, followed.next_poll - time.monotonic()))
        if self._stream is None:
            time.sleep(pause)
            return
        frame = self._stream.receive(pause)
        event = None if frame is None else events.parse(frame, self.prompt_id)
        if event is None:
            return
        followed.next_poll = time.monotonic() + self._settings.poll_interval_s
        if isinstance(event, events.Ended):
            followed.next_poll = 0 if event.stored else time.monotonic() + TICK_S
        elif isinstance(event, events.BranchBlocked):
            followed.blocked.append(event)
        self._on_event(event)

    def _poll(self, client: ComfyClient, followed: _Followed) -> dict[str, Any] | None:
        """Ask history. What does not answer is left to the supervisor, which sees it as well."""
        ended = followed.next_poll == 0
        followed.next_poll = time.monotonic() + (
            ENDED_POLL_S if ended else self._settings.poll_interval_s
        )
        try:
            # It may end between the first two questions, hence the third.
            entry = self._history(client)
            if entry is not None or client.is_queued(self.prompt_id):
                return entry
            entry = self._history(client)
        except ComfyUnavailable as error:
            log.warning(str(error))
            return None
        if entry is None:
            raise ComfyCrashed("ComfyUI no longer knows the prompt, as if it had been restarted")
        return entry

    def _history(self, client: ComfyClient) -> dict[str, Any] | None:
        try:
            return client.history(self.prompt_id)
        except BadAnswer as error:  # a prompt that has not ended has no entry to be wrong
            raise ExecutionFailed(
                f"the workflow has ended, but ComfyUI cannot report what it made ({error}); "
                "a node may have returned something that is not JSON"
            ) from error

    def _end(self, client: ComfyClient) -> None:
        """See to it that ComfyUI no longer holds the prompt, by its restart if need be."""
        give_up_at = time.monotonic() + self._settings.comfy_interrupt_timeout_s
        while not self._supervisor.failure(self._incarnation):
            try:
                client.cancel(self.prompt_id)
                if not client.is_queued(self.prompt_id):
                    return
            except ComfyUnavailable as error:
                log.warning(str(error))
            if time.monotonic() > give_up_at:
                self._supervisor.restart(self._incarnation, "ComfyUI did not obey an interrupt")
                return
            time.sleep(ENDED_POLL_S)
