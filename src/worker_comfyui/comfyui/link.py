"""The connections to one ComfyUI, kept from job to job."""

from __future__ import annotations

import logging
import uuid
from collections import deque
from contextlib import suppress

from worker_comfyui.comfyui.cache_keys import CacheKeys
from worker_comfyui.comfyui.client import MAX_RECENT, SOON_S, ComfyClient
from worker_comfyui.comfyui.event_stream import Disconnected, EventStream
from worker_comfyui.comfyui.node_classes import NodeClasses
from worker_comfyui.comfyui.process.supervisor import Incarnation

log = logging.getLogger(__name__)


class Link:
    """One incarnation of ComfyUI, as the jobs use it: one after another, each in its own turn.

    Attributes:
        incarnation: Which one it is.
        client: For questions that are answered at once.
        patient: For what may take ComfyUI long: it lists model folders on a network volume while
            it validates a workflow.
        forgetful: For what nobody waits for, when others have their turn: that it forgets prompts.
        classes: Its node classes.
        cache_keys: What its cache may hold.
        ended: Prompts of earlier jobs, which it may remember still.
        client_id: Under which ComfyUI knows the websocket, and sends it what a prompt does.
    """

    def __init__(self, incarnation: Incarnation, *, patience_s: float) -> None:
        self.incarnation = incarnation
        self.client = ComfyClient(incarnation.address, timeout_s=SOON_S)
        self.patient = ComfyClient(incarnation.address, timeout_s=patience_s)
        self.forgetful = ComfyClient(incarnation.address, timeout_s=SOON_S)
        self.classes = NodeClasses(self.patient.node_class, self.patient.node_replacements)
        self.cache_keys = CacheKeys(shared=incarnation.folders is None)
        self.ended: deque[str] = deque(maxlen=MAX_RECENT)
        self.client_id = uuid.uuid4().hex
        self._stream: EventStream | None = None

    @property
    def stream(self) -> EventStream | None:
        """The websocket, if it is open."""
        return self._stream

    def connect(self) -> None:
        """Have the websocket open for the next prompt; what came meanwhile is of no use to it."""
        if self._stream:
            with suppress(Disconnected):
                while self._stream.receive(0) is not None:
                    pass
                return
            self.disconnect()
        # ComfyUI takes an id from its list when a connection under it ends (server.py,
        # websocket_handler), also where a newer one is there: that would be mute.
        self.client_id = uuid.uuid4().hex
        self.reconnect()

    def reconnect(self) -> None:
        """Open the websocket again for the prompt that was queued under its id."""
        try:
            self._stream = EventStream(self.incarnation.address, self.client_id)
        except Disconnected as error:
            log.warning("no websocket to ComfyUI: %s", str(error))

    def disconnect(self) -> None:
        """Close the websocket."""
        if self._stream:
            self._stream.close()
        self._stream = None

    def close(self) -> None:
        """Close all connections."""
        self.disconnect()
        self.client.close()
        self.patient.close()
        self.forgetful.close()


class Links:
    """Keeps the link to the incarnation that lives. For one job at a time."""

    def __init__(self, *, patience_s: float) -> None:
        self._patience_s = patience_s
        self._link: Link | None = None

    def to(self, incarnation: Incarnation) -> Link:
        """Return the link to this incarnation; that to an earlier one is closed."""
        if self._link is None or self._link.incarnation != incarnation:
            self.close()
            self._link = Link(incarnation, patience_s=self._patience_s)
        return self._link

    def close(self) -> None:
        """Close the link."""
        if self._link:
            self._link.close()
        self._link = None
