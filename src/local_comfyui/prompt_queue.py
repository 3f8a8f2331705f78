"""The prompt queue and the history: who waits, who runs, what became of the others."""

from __future__ import annotations

import copy
import heapq
import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from local_comfyui.prompt import Json, QueueItem

MAXIMUM_HISTORY_SIZE = 10_000


@dataclass(order=True)
class _Waiting:
    number: float
    arrival: int
    item: QueueItem = field(compare=False)


@dataclass(frozen=True)
class Finished:
    """A prompt that has ended, with the ``outputs``, ``status`` and ``meta`` of its run."""

    item: QueueItem
    result: Json

    def as_entry(self) -> Json:
        """The form that ``/history`` shows."""
        return {"prompt": self.item.as_list(), **self.result}


class PromptQueue:
    """A priority queue with one consumer (the execution thread) and many callers (HTTP)."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """Keep an empty queue; ``changed`` is called after every change of its length."""
        self._changed = changed
        self._lock = threading.Condition(threading.RLock())
        self._arrivals = itertools.count()
        self._waiting: list[_Waiting] = []
        self._running: QueueItem | None = None
        self._history: dict[str, Finished] = {}
        self._free_requested = False

    def put(self, item: QueueItem) -> None:
        """Let a prompt wait for its turn: lowest number first, then first come first served."""
        with self._lock:
            heapq.heappush(self._waiting, _Waiting(item.number, next(self._arrivals), item))
            self._changed()
            self._lock.notify()

    def get(self) -> QueueItem | None:
        """Block until there is work: the next prompt, or None when memory should be freed."""
        with self._lock:
            while not self._waiting and not self._free_requested:
                self._lock.wait()
            if self._free_requested:
                return None
            item = heapq.heappop(self._waiting).item
            self._running = copy.deepcopy(item)
            self._changed()
            return item

    def done(self, item: QueueItem, result: Json) -> None:
        """Move the running prompt to the history with ``outputs``, ``status`` and ``meta``."""
        with self._lock:
            shown = self._running or item
            self._running = None
            if len(self._history) > MAXIMUM_HISTORY_SIZE:
                self._history.pop(next(iter(self._history)))
            self._history[item.prompt_id] = Finished(shown, result)
            self._changed()

    def remaining(self) -> int:
        """How many prompts wait or run."""
        with self._lock:
            return len(self._waiting) + (self._running is not None)

    def running(self) -> list[QueueItem]:
        """The running prompt, if any."""
        with self._lock:
            return [self._running] if self._running else []

    def pending(self) -> list[QueueItem]:
        """The waiting prompts, in the order in which they will run."""
        with self._lock:
            return [entry.item for entry in sorted(self._waiting)]

    def clear(self) -> None:
        """Drop every waiting prompt."""
        with self._lock:
            self._waiting = []
            self._changed()

    def delete(self, prompt_id: str) -> bool:
        """Drop one waiting prompt; False when it does not wait."""
        with self._lock:
            rest = [entry for entry in self._waiting if entry.item.prompt_id != prompt_id]
            if len(rest) == len(self._waiting):
                return False
            if not rest:
                # ComfyUI clears an emptied queue before it reports the deletion: two frames.
                self._changed_with(rest)
            self._changed_with(rest)
            return True

    def _changed_with(self, waiting: list[_Waiting]) -> None:
        heapq.heapify(waiting)
        self._waiting = waiting
        self._changed()

    def if_running(self, prompt_id: str, action: Callable[[], None]) -> bool:
        """Do something while this very prompt is the running one; False when it is not."""
        with self._lock:
            if self._running is None or self._running.prompt_id != prompt_id:
                return False
            action()
            return True

    def history(self, max_items: int | None = None, offset: int = -1) -> dict[str, Json]:
        """Finished prompts, oldest first.

        Args:
            max_items: At most so many; without an offset, the newest ones.
            offset: Where the window starts, from the oldest; negative means none is given.
        """
        with self._lock:
            total = len(self._history)
            if offset < 0:
                offset = max(0, total - max_items) if max_items is not None else 0
            end = None if max_items is None else offset + max(1, max_items)
            window = itertools.islice(self._history.items(), offset, end)
            return {prompt_id: finished.as_entry() for prompt_id, finished in window}

    def history_of(self, prompt_id: str) -> dict[str, Json]:
        """One finished prompt under its id, or an empty mapping."""
        with self._lock:
            finished = self._history.get(prompt_id)
            return {} if finished is None else {prompt_id: finished.as_entry()}

    def finished(self) -> list[Finished]:
        """All finished prompts, oldest first."""
        with self._lock:
            return list(self._history.values())

    def clear_history(self) -> None:
        """Forget every finished prompt."""
        with self._lock:
            self._history = {}

    def delete_history(self, prompt_ids: Sequence[str]) -> None:
        """Forget some finished prompts; unknown ids are no error."""
        with self._lock:
            for prompt_id in prompt_ids:
                self._history.pop(prompt_id, None)

    def request_free(self) -> None:
        """Ask the execution thread to drop its cached results when it is next idle."""
        with self._lock:
            self._free_requested = True
            self._lock.notify()

    def take_free_request(self) -> bool:
        """Whether freeing was asked for since the last call."""
        with self._lock:
            requested, self._free_requested = self._free_requested, False
            return requested
