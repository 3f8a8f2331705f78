"""What ComfyUI says of all its node classes, kept for a moment.

The answer is megabytes, and slow where models lie on a network volume: ComfyUI lists all of their
folders for it. Only conversions, overrides and dry runs need it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from worker_comfyui.comfyui import old_names
from worker_comfyui.comfyui.client import ComfyClient
from worker_comfyui.comfyui.node_classes import NodeClasses
from worker_comfyui.comfyui.process.supervisor import Incarnation

FRESH_S = 30.0
"""After that, models that have come onto the volume since are among the choices."""


class ObjectInfo:
    """The last answer of GET /object_info. Safe to use from any thread.

    Args:
        patience_s: Seconds that ComfyUI may be silent.
    """

    def __init__(self, *, patience_s: float) -> None:
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._of: Incarnation | None = None
        self._until = 0.0
        self._answer: dict[str, Any] = {}
        self._replacements: dict[str, Any] = {}

    def with_old_names(self, incarnation: Incarnation) -> Mapping[str, Any]:
        """Return its node classes, under the names that they had earlier too.

        Raises:
            ComfyUnavailable: it did not answer.
        """
        info = self.of(incarnation)
        return old_names.with_old_names(info, old_names.read(self._replacements))

    def classes(self, incarnation: Incarnation) -> NodeClasses:
        """Return the same to ask for single classes.

        Raises:
            ComfyUnavailable: it did not answer.
        """
        info, replacements = self.of(incarnation), self._replacements
        return NodeClasses(info.get, lambda: replacements)

    def of(self, incarnation: Incarnation) -> dict[str, Any]:
        """Return the node classes of a ComfyUI; it must not be changed.

        Raises:
            ComfyUnavailable: it did not answer.
        """
        with self._lock:
            if self._of != incarnation or time.monotonic() > self._until:
                with ComfyClient(incarnation.address, timeout_s=self._patience_s) as client:
                    self._answer = client.object_info()
                    self._replacements = client.node_replacements()
                self._of, self._until = incarnation, time.monotonic() + FRESH_S
            return self._answer
