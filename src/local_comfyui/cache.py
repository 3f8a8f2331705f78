"""The executor's cache: results of nodes, kept for the prompts that follow."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from local_comfyui.prompt import Json, NodeClass, NodeClasses, hidden_inputs, is_link


class CacheEntry(NamedTuple):
    """What one run of a node gave: for each output slot the list of its values, and its ``ui``."""

    outputs: list[list[Any]]
    ui: Json | None


class Cache:
    """Results by key."""

    def __init__(self, size: int | None) -> None:
        """Keep so many results from one prompt to the next, or those that occur in it too (None).

        These are ComfyUI's policies: ``classic`` is None, ``none`` is 0, ``lru`` a number, and
        ``ram`` a large one.
        """
        self._size = size
        self._entries: dict[str, CacheEntry] = {}  # the least recently used first

    def begin_prompt(self, keys: set[str]) -> None:
        """Drop what is not kept for a prompt with these keys."""
        kept = list(self._entries)
        if self._size is None:
            kept = [key for key in kept if key in keys]
        else:
            kept = kept[max(0, len(kept) - self._size) :]
        self._entries = {key: self._entries[key] for key in kept}

    def get(self, key: str) -> CacheEntry | None:
        """The result under a key."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._entries[key] = entry
        return entry

    def put(self, key: str, entry: CacheEntry) -> None:
        """Keep a result."""
        self._entries[key] = entry


_unique = itertools.count()


def cache_keys(
    prompt: Json,
    order: Iterable[str],
    classes: NodeClasses,
    is_changed: Callable[[str, NodeClass], Any],
) -> dict[str, str]:
    """The key of each node: its class, its inputs and ``IS_CHANGED``, and those of all ancestors.

    ``order`` names the nodes, each after those that it takes inputs from.

    Node ids are not part of it, except for nodes that ask for their own id. An ``IS_CHANGED`` of
    NaN equals nothing, so such a node and all behind it never come from the cache.
    """
    keys: dict[str, str] = {}
    for node_id in order:
        class_type, inputs = prompt[node_id]["class_type"], prompt[node_id]["inputs"]
        changed = is_changed(node_id, classes[class_type])
        if changed != changed:  # noqa: PLR0124 - this is how NaN is told
            changed = f"never the same: {next(_unique)}"
        values = {
            name: {"link": keys.get(value[0]), "slot": value[1]} if is_link(value) else [value]
            for name, value in inputs.items()
        }
        asks_for_id = "UNIQUE_ID" in hidden_inputs(classes[class_type]).values()
        description = [class_type, node_id if asks_for_id else None, changed, values]
        text = json.dumps(description, sort_keys=True, default=repr)
        keys[node_id] = hashlib.sha256(text.encode()).hexdigest()
    return keys
