"""Runs one prompt: queues it, follows it to its end, and takes it back when it must stop."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from worker_comfyui import logs
from worker_comfyui.comfyui import events
from worker_comfyui.comfyui.client import BadAnswer, PromptRefused
from worker_comfyui.comfyui.entry import both
from worker_comfyui.comfyui.follow import ENDED_POLL_S, Follower
from worker_comfyui.comfyui.link import Link
from worker_comfyui.comfyui.process.supervisor import Supervisor
from worker_comfyui.config import Settings
from worker_comfyui.errors import ComfyCrashed, ComfyUnavailable
from worker_comfyui.job import Workflow
from worker_comfyui.stop import Stop

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Executed:
    """How a prompt went.

    Attributes:
        entry: Its history entry.
        node_errors: Of outputs that ComfyUI left out because they were not valid.
        blocked: Branches that a node stopped with a message.
        was_cut: Whether pictures sent over the websocket may be missing.
    """

    entry: dict[str, Any]
    node_errors: dict[str, Any]
    blocked: list[events.BranchBlocked]
    was_cut: bool = False


class Execution:
    """One run of one workflow on one ComfyUI."""

    def __init__(self, link: Link, supervisor: Supervisor, settings: Settings, stop: Stop) -> None:
        self.prompt_id = str(uuid.uuid4())
        self._link = link
        self._supervisor = supervisor
        self._settings = settings
        self._stop = stop
        self._may_be_queued = False
        self._prompts = [self.prompt_id]
        self._has_ended = False
        self._named = ExitStack()

    def run(
        self,
        workflow: Workflow,
        extra_data: dict[str, Any],
        on_event: Callable[[events.Event], None],
        at_rest: Callable[[], None],
    ) -> Executed:
        """Queue the workflow and follow it to its end, good or bad; `end` ends it before that.

        Args:
            workflow: What to run.
            extra_data: What goes with it.
            on_event: Called with each event of it.
            at_rest: Called once it has ended well and left ComfyUI nothing to do, while ComfyUI
                looks up its history.

        Raises:
            PromptRefused: ComfyUI does not run it.
            JobCancelled, TimedOut: it is to stop.
            ExecutionFailed: it ended, but ComfyUI cannot say how.
            ComfyCrashed: ComfyUI died, froze, or forgot the prompt.
            ComfyUnavailable: it could not be queued.
        """
        self._link.connect()
        follower = Follower(self._link, self.prompt_id, self._settings, on_event, at_rest)
        with logs.fields(prompt_id=self.prompt_id):
            # From here on ComfyUI prints about this prompt; its last line about the one before may
            # come after that one's turn.
            self._named.enter_context(logs.lent_fields("comfyui"))
            self._may_be_queued = True  # from here on: the answer may be lost
            try:
                node_errors = self._link.patient.queue_prompt(
                    workflow,
                    prompt_id=self.prompt_id,
                    client_id=self._link.client_id,
                    extra_data=extra_data,
                )
            except PromptRefused:
                self._may_be_queued = False
                raise
            except BadAnswer:  # nothing was lost on the way
                raise
            except ComfyUnavailable as error:
                if not self._was_queued():
                    raise
                log.warning("the prompt was queued all the same: %s", error.message)
                node_errors = {}
            log.info("prompt queued", extra={"event": "prompt_queued"})
            entry, was_cut = self._follow(follower, workflow)
            blocked = follower.blocked
            while (more := self._queued_by_nodes(follower)) is not None:
                log.info("a node has queued another prompt: %s", more)
                self._prompts.append(more)
                follower = Follower(self._link, more, self._settings, on_event, at_rest)
                next_entry, next_was_cut = self._follow(follower, workflow)
                entry = both(entry, next_entry)
                blocked, was_cut = blocked + follower.blocked, was_cut or next_was_cut
            self._note_end()
        return Executed(entry, node_errors, blocked, was_cut)

    def _follow(self, follower: Follower, workflow: Workflow) -> tuple[dict[str, Any], bool]:
        try:
            return follower.to_the_end(self._check), follower.was_cut
        except ComfyCrashed as lost:
            _name_node(lost, follower.current, workflow)
            raise

    def _queued_by_nodes(self, follower: Follower) -> str | None:
        """Return the next prompt that a node of this job has queued; None: there is none.

        VideoHelperSuite's batch manager works that way: it queues the workflow again for the next
        frames, under the same websocket (utils.py, `requeue_workflow`).
        """
        if follower.is_last:
            return None
        try:
            known = self._link.client.known_under(self._link.client_id)
        except ComfyUnavailable as error:
            log.warning(str(error))
            return None
        # Those of the jobs before may not be forgotten yet.
        others = {*self._prompts, *self._link.ended}
        return next((one for one in known if one not in others), None)

    def end(self) -> None:
        """Let ComfyUI neither run nor remember the prompt, by its restart if need be.

        One that has ended by itself is left to `close`.
        """
        if self._may_be_queued:
            with logs.lent_fields("comfyui"):
                self._take_back()
            self._note_end()
            self.close()

    def close(self) -> None:
        """Let go of the prompt, and have ComfyUI forget it; nobody needs to wait for that."""
        self._named.close()
        if not self._has_ended:
            return
        self._has_ended = False
        # It keeps the last 10,000 prompts, with all that their nodes reported (execution.py,
        # MAXIMUM_HISTORY_SIZE), and other callers have no business there.
        with suppress(ComfyUnavailable):
            self._link.forgetful.forget(self._prompts)

    def _note_end(self) -> None:
        self._may_be_queued = False
        self._has_ended = True
        self._link.ended.extend(self._prompts)

    def _check(self) -> None:
        self._stop.check()
        if ended := self._supervisor.failure(self._link.incarnation):
            raise ComfyCrashed(ended.reason)

    def _was_queued(self) -> bool:
        """Tell whether a prompt that was sent, but not answered, waits, runs or has run."""
        client = self._link.client
        while True:
            self._check()
            try:
                return client.is_queued(self.prompt_id) or bool(client.history(self.prompt_id))
            except BadAnswer:  # only the entry of a prompt that has run can be wrong
                return True
            except ComfyUnavailable as error:
                log.warning(str(error))
            time.sleep(ENDED_POLL_S)

    def _take_back(self) -> None:
        incarnation, client = self._link.incarnation, self._link.client
        give_up_at = time.monotonic() + self._settings.comfy_interrupt_timeout_s
        while not self._supervisor.failure(incarnation):
            try:
                left = client.queued_under(self._link.client_id)
                self._prompts += [one for one in left if one not in self._prompts]
                for prompt_id in left or [self.prompt_id]:
                    client.cancel(prompt_id)
                if not client.queued_under(self._link.client_id):
                    return
            except ComfyUnavailable as error:
                log.warning(str(error))
            if time.monotonic() > give_up_at:
                self._supervisor.restart(incarnation, "ComfyUI did not obey an interrupt")
                return
            time.sleep(ENDED_POLL_S)


def _name_node(lost: ComfyCrashed, node_id: str | None, workflow: Workflow) -> None:
    """Say where it happened. The word of a node that ended ComfyUI at once may not have come."""
    if node_id is None or node_id not in workflow:
        return
    class_type = str(workflow[node_id]["class_type"])
    lost.details.append({"node_id": node_id, "class_type": class_type, "message": lost.message})
    lost.message += f"; the last node that it began was node {node_id} ({class_type})"
