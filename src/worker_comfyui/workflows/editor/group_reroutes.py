"""What a Reroute inside a group node carries, which is how the group names the Reroute's input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from worker_comfyui.workflows.editor.graph import Node

InnerLink = tuple[int, int, int, int]
"""Origin and its output, target and its input; the nodes by their place in the group."""

ANY = {"", "*"}


def carried(
    raw: Mapping[str, Any], members: Sequence[Node], inner: Sequence[InnerLink], index: int
) -> str:
    """Say what goes through a Reroute into which no link of the group leads.

    The Reroute itself often stores `*`; what it leads to knows better. Frontend 1.27
    extensions/core/groupNode.ts (getNodeDef).

    Args:
        raw: The group, as the file has it.
        members: Its nodes.
        inner: Its links.
        index: The Reroute's place among the nodes.
    """
    ends = [
        (members[target].file_slots, slot) for origin, _, target, slot in inner if origin == index
    ]
    kinds = [slots[slot].type for slots, slot in ends if slot < len(slots)]
    if not ends:
        kinds = list(_outside(raw, index))
    return next((kind for kind in kinds if kind not in ANY), "*")


def _outside(raw: Mapping[str, Any], index: int) -> Iterator[str]:
    """List what came in and went out where the group was made."""
    for key, place, kind in (("links", 2, 5), ("external", 0, 2)):
        entries = raw.get(key)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, list) and len(entry) > kind and entry[place] == index:
                yield str(entry[kind])
