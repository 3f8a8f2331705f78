"""Takes prompts from the queue and runs one after the other.

The behaviour is that of ComfyUI 0.3.64 ``execution.py`` and ``main.py``.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from local_comfyui.cache import Cache
from local_comfyui.interrupt import Interrupt
from local_comfyui.prompt import NodeClasses
from local_comfyui.prompt_queue import PromptQueue
from local_comfyui.prompt_run import PromptRun
from local_comfyui.websocket import Preview, WebSockets

_log = logging.getLogger(__name__)


class Executor:
    """Executes prompts; holds between them what is kept: cached results and nodes' objects."""

    def __init__(
        self, classes: NodeClasses, cache: Cache, sockets: WebSockets, interrupt: Interrupt
    ) -> None:
        self.classes = classes
        self.cache = cache
        self.sockets = sockets
        self.interrupt = interrupt
        self._instances: dict[tuple[str, str], Any] = {}
        self._run: PromptRun | None = None

    def running_node(self, client_id: str) -> str | None:
        """The node that runs now, if the running prompt is this client's."""
        run = self._run
        return run.node_id if run and run.item.client_id == client_id else None

    def report(self, value: float, maximum: float, preview: Preview | None) -> None:
        """Report a step of the running node: how many of how many, with a preview image."""
        if self._run is not None:
            self._run.progress.update(value, maximum, preview)

    def work(self, queue: PromptQueue) -> None:
        """Execute what comes into the queue, for ever: the work of a thread of its own."""
        while True:
            item = queue.get()
            if item is None:
                self.cache.clear()
                self._instances.clear()
                continue
            _log.info("got prompt")
            started = time.perf_counter()
            self.interrupt.clear()
            self._run = PromptRun(item, self.classes, self.cache, self.sockets, self.interrupt)
            # A node's object lives as long as each prompt has that node.
            wanted = {(node_id, node.get("class_type")) for node_id, node in item.prompt.items()}
            self._instances = {key: self._instances[key] for key in wanted & {*self._instances}}
            queue.done(item, self._run.execute(self._instances))
            self._run = None
            if item.client_id is not None:
                end = {"node": None, "prompt_id": item.prompt_id}
                self.sockets.send("executing", end, item.client_id)
            _log.info("Prompt executed in %.2f seconds", time.perf_counter() - started)
