"""A node as the editor makes it before it reads the file: slots and widgets with their defaults.

Frontend services/litegraphService.ts (addInputs): first a pass over all sockets, then one over all
widgets, each of which has a slot too.
"""

from __future__ import annotations

from worker_comfyui.errors import InvalidRequest
from worker_comfyui.workflows.editor import dynamic
from worker_comfyui.workflows.editor.graph import Node, Slot, Widget
from worker_comfyui.workflows.editor.node_classes import (
    AUTOGROW,
    DYNAMIC_COMBO,
    KNOWN_V3,
    MATCH_TYPE,
    InputSpec,
    NodeClass,
)
from worker_comfyui.workflows.editor.widgets import widgets_for

CUSTOM_COMBO = "CustomCombo"
OPTION = "OPTION"


def build(node: Node, node_class: NodeClass) -> None:
    """Make a node's slots and widgets.

    Raises:
        InvalidRequest: the class has an input of a kind that came after the known editor.
    """
    node.node_class = node_class
    for spec in node_class.ordered:
        _add_socket(node, spec)
    for spec in node_class.ordered:
        _add_widgets(node, spec)
    # Not what a dynamic combo adds later: extensions/core/dynamicPrompts.ts asks once, here.
    for widget in node.widgets:
        if widget.spec is not None and widget.kind == "STRING":
            widget.dynamic_prompt = widget.spec.options.get("dynamicPrompts") is True
    if node.type == CUSTOM_COMBO:
        node.widgets.append(Widget("index", "INDEX", -1, fixed=True))
        add_option(node)


def add_input(node: Node, spec: InputSpec) -> None:
    """Make the slot and the widgets of one input, at the end of the node's lists."""
    _add_socket(node, spec)
    _add_widgets(node, spec)


def add_option(node: Node) -> None:
    """Give a CustomCombo its next, empty option."""
    count = len(node.widgets) - 1
    node.widgets.append(Widget(f"option{count}", OPTION, ""))


def _add_socket(node: Node, spec: InputSpec) -> None:
    if spec.is_widget:
        return
    if spec.type == AUTOGROW:
        dynamic.start_group(node, spec, add_input)
    elif spec.type == MATCH_TYPE:
        node.inputs.append(Slot(spec.name, _allowed(spec)))
    elif spec.type.startswith("COMFY_") and spec.type.endswith("_V3") and spec.type not in KNOWN_V3:
        message = f"takes {spec.type}, a kind of input that this worker cannot convert"
        raise InvalidRequest.of([{**node.where(), "input": spec.name, "message": message}])
    else:
        node.inputs.append(Slot(spec.name, spec.type))


def _allowed(spec: InputSpec) -> str:
    template = spec.options.get("template")
    allowed = template.get("allowed_types") if isinstance(template, dict) else None
    return str(allowed or "*")


def _add_widgets(node: Node, spec: InputSpec) -> None:
    if not spec.is_widget:
        return
    made = widgets_for(spec, node)
    node.widgets += made
    if spec.widget_type == DYNAMIC_COMBO:
        dynamic.choose(node, made[0], add_input)
    if not spec.options.get("socketless"):
        node.inputs.append(Slot(spec.name, spec.type, widget=spec.name))
