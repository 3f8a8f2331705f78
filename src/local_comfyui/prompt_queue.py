"""The prompt queue and the history: who waits, who runs, what became of the others."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence

from local_comfyui.prompt import Json, QueueItem


class PromptQueue:
    """A queue with one consumer (the execution thread) and many callers (HTTP)."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """Keep an empty queue; ``changed`` is called after every change of its length."""
        self._changed = changed
        self._lock = threading.Condition(threading.RLock())  # `changed` asks for the length
        self._waiting: list[QueueItem] = []  # in the order in which they will run
        self._running: QueueItem | None = None
        self._history: dict[str, Json] = {}

    def put(self, item: QueueItem) -> None:
        """Let a prompt wait for its turn."""
        with self._lock:
            self._waiting.append(item)
            self._changed()
            self._lock.notify()

    def get(self) -> QueueItem:
        """Block until there is work: the next prompt."""
        with self._lock:
            self._lock.wait_for(lambda: self._waiting)
            item = self._waiting.pop(0)
            self._running = copy.deepcopy(item)  # nodes may change what they are given
            self._changed()
            return item

    def done(self, item: QueueItem, result: Json) -> None:
        """Move the running prompt to the history with ``outputs``, ``status`` and ``meta``."""
        with self._lock:
            shown = self._running or item
            self._running = None
            self._history[item.prompt_id] = {"prompt": shown.as_list(), **result}
            self._changed()

    def remaining(self) -> int:
        """How many prompts wait or run."""
        with self._lock:
            return len(self._waiting) + (self._running is not None)

    def as_lists(self) -> Json:
        """What runs and what waits, in the form that ``/queue`` shows."""
        with self._lock:
            return {
                "queue_running": [self._running.as_list()] if self._running else [],
                "queue_pending": [item.as_list() for item in self._waiting],
            }

    def delete(self, prompt_id: str) -> None:
        """Drop one waiting prompt; one that does not wait is no error."""
        with self._lock:
            rest = [item for item in self._waiting if item.prompt_id != prompt_id]
            if len(rest) < len(self._waiting):
                self._waiting = rest
                self._changed()
                if not rest:
                    self._changed()  # ComfyUI clears an emptied queue, and reports that too

    def if_running(self, prompt_id: str, action: Callable[[], None]) -> None:
        """Do something only while this very prompt is the running one."""
        with self._lock:
            if self._running is not None and self._running.prompt_id == prompt_id:
                action()

    def history(self, prompt_id: str | None = None) -> dict[str, Json]:
        """Finished prompts, oldest first; or only one, if it is there."""
        with self._lock:
            known = self._history.items()
            return {name: entry for name, entry in known if prompt_id in (None, name)}

    def delete_history(self, prompt_ids: Sequence[str]) -> None:
        """Forget some finished prompts; unknown ids are no error."""
        with self._lock:
            for prompt_id in prompt_ids:
                self._history.pop(prompt_id, None)
