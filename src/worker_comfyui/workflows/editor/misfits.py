"""Nodes whose values cannot be what the class takes today: another version of it saved the file.

Values are stored by position, so an input that a node pack has added or taken away shifts all that
come after it. The editor says nothing; what it exports runs with wrong values, or is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker_comfyui.job import Workflow
from worker_comfyui.wording import cut
from worker_comfyui.workflows.editor.export import Emitted
from worker_comfyui.workflows.editor.graph import Widget
from worker_comfyui.workflows.editor.node_classes import COMBO

SHOWN = 100


def misfits(workflow: Workflow, nodes: Mapping[str, Emitted]) -> dict[str, str]:
    """Return what to say of each such node, by its id in the workflow."""
    found = {}
    for node_id, emitted in nodes.items():
        inputs = workflow[node_id]["inputs"]
        for widget in emitted.node.widgets:
            if widget.name in inputs and not _may_be(inputs[widget.name], widget):
                found[node_id] = (
                    "the file's values for this node do not fit its inputs "
                    f"({cut(widget.name)} would be {_shown(inputs[widget.name])}): it was saved "
                    "with another version of the node's pack, so others may be wrong too; look at "
                    "them in the editor, and save it again"
                )
                break
    return found


def _may_be(value: Any, widget: Widget) -> bool:
    """Tell whether a constant can be meant for a widget; a link can."""
    if isinstance(value, list | dict) or value is None:
        return True
    match widget.kind:
        case "INT" | "FLOAT":
            return not isinstance(value, str) or _is_number(value)
        case "BOOLEAN":
            return not isinstance(value, str)
        case "STRING":
            return not isinstance(value, bool)
        case _ if widget.kind == COMBO and widget.choices:
            words = all(isinstance(one, str) and not _is_number(one) for one in widget.choices)
            return isinstance(value, str) or not words
    return True


def _shown(value: Any) -> str:
    return f"'{cut(value, SHOWN)}'" if isinstance(value, str) else cut(value, SHOWN)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
