"""Nodes that exist in the browser only: notes, Reroutes, and those of the packs people use.

`Role` says what a node does when a link leads through it.
"""

from __future__ import annotations

from enum import Enum

from worker_comfyui.workflows.editor.graph import Graph, Node


class Role(Enum):
    """What a node is for the export."""

    REAL = "real"
    HOST = "host"
    PASS = "pass"  # noqa: S105  # nosec B105  # output k continues at input k
    SET = "set"
    GET = "get"
    PRIMITIVE = "primitive"
    NOTHING = "nothing"
    REFUSED = "refused"
    MISSING = "missing"


PRIMITIVE = "PrimitiveNode"
REROUTE = "Reroute"
NOTES = ("Note", "MarkdownNote")

_CORE = {
    **dict.fromkeys(NOTES, Role.NOTHING),
    REROUTE: Role.PASS,
    PRIMITIVE: Role.PRIMITIVE,
}
_PACKS = {
    "SetNode": Role.SET,
    "GetNode": Role.GET,
    "easy setNode": Role.SET,
    "easy getNode": Role.GET,
    **dict.fromkeys(
        (
            f"{name} (rgthree)"
            for name in (
                "Reroute",
                "Bookmark",
                "Label",
                "Fast Groups Muter",
                "Fast Groups Bypasser",
                "Fast Muter",
                "Fast Bypasser",
                "Mute / Bypass Relay",
                "Mute / Bypass Repeater",
                "Node Collector",
                "Node Combiner",
                "Random Unmuter",
                "Fast Actions Button",
            )
        ),
        Role.PASS,
    ),
}
REFUSED = {
    "PresetText|pysssss": "its text is put together in the browser",
    "MultiPrimitive|pysssss": "its values are written into other nodes in the browser",
    "VHS_SelectLatest": "its file is chosen in the browser, among those on the editor's server",
    "WebcamCapture": "it needs a camera",
}
"""Nodes whose work is done in the browser, and why they cannot be converted."""

BROWSER_INPUTS = {
    "Load3D": "its picture is",
    "Load3DAnimation": "its picture is",
    "RecordAudio": "its recording is",
}
"""Classes with an input that only the browser can give."""


def role(node: Node) -> Role:
    """Say what a node is for the export."""
    if node.definition is not None:
        return Role.HOST
    if node.type in _CORE:
        return _CORE[node.type]
    if node.type in REFUSED:
        return Role.REFUSED
    if node.node_class is not None:
        return Role.REAL
    if node.type in _PACKS:
        return _PACKS[node.type]
    return Role.MISSING if node.file_slots or node.outputs else Role.NOTHING


def stored_name(node: Node) -> str:
    """Return the name under which a Set or Get node (KJNodes, Easy-Use) passes a value on."""
    name = node.stored[0] if isinstance(node.stored, list) and node.stored else None
    return name if isinstance(name, str) else ""


def setters(graph: Graph) -> dict[str, Node]:
    """Find the Set nodes of a graph by their names; of those with the same name, the first."""
    found: dict[str, Node] = {}
    for node in graph.listed:
        if _PACKS.get(node.type) is Role.SET and node.node_class is None:
            found.setdefault(stored_name(node), node)
    found.pop("", None)
    return found
