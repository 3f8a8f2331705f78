"""The executor's cache: results of nodes, kept for the prompts that follow."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local_comfyui.graph import ancestors_first
from local_comfyui.node_inputs import hidden_inputs
from local_comfyui.prompt import Json, NodeClass, NodeClasses, is_link

_RAM_POLICY_SIZE = 1000


@dataclass(frozen=True)
class CacheEntry:
    """What one run of a node gave."""

    outputs: list[list[Any]]
    """For each output slot the list of its values (one, unless the node maps over a list)."""
    ui: Json | None
    meta: Json | None


class Cache:
    """Results by key, dropped by one of ComfyUI's policies.

    ``classic`` keeps the results of nodes that also occur in the next prompt, ``lru`` and ``ram``
    keep many across prompts, ``none`` keeps nothing from one prompt to the next.
    """

    def __init__(self, policy: str, size: int) -> None:
        self._policy = policy
        self._size = _RAM_POLICY_SIZE if policy == "ram" else size
        self._entries: OrderedDict[str, CacheEntry] = OrderedDict()

    def begin_prompt(self, keys: Mapping[str, str]) -> None:
        """Drop what the policy does not keep for a prompt with these keys."""
        if self._policy == "none":
            self._entries.clear()
        elif self._policy == "classic":
            wanted = set(keys.values())
            for key in [key for key in self._entries if key not in wanted]:
                del self._entries[key]

    def end_prompt(self) -> None:
        """Drop the oldest results when there are too many."""
        if self._policy in ("lru", "ram"):
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)

    def get(self, key: str) -> CacheEntry | None:
        """The result under a key."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: str, entry: CacheEntry) -> None:
        """Keep a result."""
        self._entries[key] = entry

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()


_unique = itertools.count()


def cache_keys(
    prompt: Json, classes: NodeClasses, is_changed: Callable[[str, NodeClass], Any]
) -> dict[str, str]:
    """The key of every node: its class, its inputs and ``IS_CHANGED``, and those of all ancestors.

    Node ids are not part of it, except for nodes that ask for their own id. An ``IS_CHANGED`` of
    NaN equals nothing, so such a node and all behind it never come from the cache.
    """
    keys: dict[str, str] = {}
    for node_id in ancestors_first(prompt):
        node = prompt[node_id]
        node_class = classes[node["class_type"]]
        changed = is_changed(node_id, node_class)
        if changed != changed:  # noqa: PLR0124 - this is how NaN is told
            changed = f"never the same: {next(_unique)}"
        description = [
            node["class_type"],
            node_id if _depends_on_its_id(node_class) else None,
            changed,
            sorted(
                (name, "link", keys.get(value[0]), value[1])
                if is_link(value)
                else (name, "value", _canonical(value), 0)
                for name, value in node["inputs"].items()
            ),
        ]
        keys[node_id] = hashlib.sha256(_canonical(description).encode()).hexdigest()
    return keys


def _depends_on_its_id(node_class: NodeClass) -> bool:
    asks = "UNIQUE_ID" in hidden_inputs(node_class).values()
    return asks or bool(getattr(node_class, "NOT_IDEMPOTENT", False))


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=repr)
