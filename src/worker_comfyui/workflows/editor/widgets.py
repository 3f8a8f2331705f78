"""Input specs → the widgets that the editor makes for them, with their defaults.

One input can have several: a seed owns a second entry in `widgets_values` (its control), a
bounding box five. Which ones, and in which order, is what decides what a stored list means.
Frontend scripts/widgets.ts, renderer/extensions/vueNodes/widgets/composables, extensions/core.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker_comfyui.workflows.editor import javascript
from worker_comfyui.workflows.editor.graph import UNSET, Node, Widget
from worker_comfyui.workflows.editor.node_classes import COMBO, DYNAMIC_COMBO, InputSpec

CONTROL = "CONTROL"
"""The mode behind a seed: fixed, increment, decrement, randomize."""
CONTROLS = ["fixed", "increment", "decrement", "randomize"]
SHIM = "SHIM"
"""Stands for a socket inside a group of inputs that grows; holds no value."""

_VIEWPORT_CLASSES = {
    "Preview3DAdvanced",
    "PreviewGaussianSplat",
    "PreviewPointCloud",
    "Save3DAdvanced",
    "SaveGaussianSplat",
    "SavePointCloud",
}
_BOX = {"x": 0, "y": 0, "width": 512, "height": 512}
_CURVE = {"points": [[0, 0], [1, 1]], "interpolation": "monotone_cubic"}


def widgets_for(spec: InputSpec, node: Node) -> list[Widget]:
    """Make the widgets of an input; the node is asked where that depends on its class."""
    kind = spec.widget_type
    if kind in _BUILDERS:
        return _BUILDERS[kind](spec, node)
    return [Widget(spec.name, kind, _default(spec, kind), spec)]


def _default(spec: InputSpec, kind: str) -> Any:
    stated = spec.options.get("default")
    nested = spec.options.get("options")
    nested = nested if isinstance(nested, dict) else {}
    match kind:
        case "MARKDOWN":
            return ""
        case "TEXTAREA":
            return nested.get("default") or ""
        case "CHART":
            return nested.get("data") or {}
        case "GALLERIA":
            return nested.get("images") or []
        case "COLOR":
            fallback: Any = nested.get("default") or "#000000"
        case _:
            fallback = _DEFAULTS.get(kind, "")
    return fallback if stated is None else stated


_DEFAULTS: dict[str, Any] = {
    "INT": 0,
    "FLOAT": 0,
    "BOOLEAN": False,
    "STRING": "",
    "PAINTER": "",
    "COLORS": [],
    "BOUNDING_BOXES": [],
    "BOUNDING_BOX": _BOX,
    "CURVE": _CURVE,
    "RANGE": {"min": 0, "max": 1},
    "COMPOSITOR": UNSET,
}


def _numbers(spec: InputSpec, _node: Node) -> list[Widget]:
    kind = spec.widget_type
    widgets = [Widget(spec.name, kind, _default(spec, kind), spec)]
    if spec.has_control:
        # The defaults of useIntWidget.ts and useFloatWidget.ts.
        mode = "randomize" if kind == "INT" else "fixed"
        flag = spec.options.get("control_after_generate")
        widgets.append(_control(flag if isinstance(flag, str) and kind == "INT" else mode, spec))
    return widgets


def _control(mode: str, spec: InputSpec) -> Widget:
    flag = spec.options.get("control_after_generate")
    # A text there is the first mode of an integer (useIntWidget.ts), and the control's name
    # (scripts/widgets.ts, getName).
    name = flag if isinstance(flag, str) else "control_after_generate"
    return Widget(name, CONTROL, mode, choices=CONTROLS, sent=False)


def _combo(spec: InputSpec, _node: Node) -> list[Widget]:
    if spec.takes_several:
        # Whatever its default is (useComboWidget.ts).
        return [Widget(spec.name, "MULTI_SELECT", [], spec)]
    widget = Widget(spec.name, COMBO, UNSET, spec, spec.choices)
    widgets = [widget]
    stated, remote = spec.options.get("default"), spec.options.get("remote")
    if javascript.truthy(stated):
        widget.value = stated
    elif widget.choices:
        widget.value = widget.choices[0]
    elif remote:
        widget.value = "Loading..."  # shown until the choices are fetched, and sent
    if remote:
        # As useRemoteWidget.ts makes them; the button's value is even sent.
        widgets.append(Widget("Auto-refresh after generation", "BOOLEAN", False, sent=False))
        if isinstance(remote, dict) and remote.get("refresh_button"):
            widgets.append(Widget("refresh", "BUTTON", "refresh"))
    if spec.has_control:
        widgets.append(_control("randomize", spec))
        widgets.append(Widget("control_filter_list", "STRING", "", sent=False))
    return widgets


def _dynamic_combo(spec: InputSpec, _node: Node) -> list[Widget]:
    keys = [option["key"] for option in branches(spec)]
    return [Widget(spec.name, DYNAMIC_COMBO, keys[0] if keys else UNSET, spec, keys)]


def branches(spec: InputSpec) -> list[dict[str, Any]]:
    """List the options of a dynamic combo: `key`, and the `inputs` that come with it."""
    return [
        option
        for option in spec.choices
        if isinstance(option, dict) and option.get("key") is not None
    ]


def _text(spec: InputSpec, _node: Node) -> list[Widget]:
    value = _default(spec, "STRING")
    return [Widget(spec.name, "STRING", javascript.text(value), spec)]


def _upload(spec: InputSpec, _node: Node) -> list[Widget]:
    return [Widget(spec.name, spec.widget_type, "image", spec, sent=False)]


def _audio_ui(spec: InputSpec, _node: Node) -> list[Widget]:
    return [Widget(spec.name, "AUDIO_UI", "", spec, stored=False, sent=False)]


def _audio_record(spec: InputSpec, _node: Node) -> list[Widget]:
    recorded = Widget(spec.name, "AUDIO_RECORD", "", spec, fixed=True)
    return [recorded, Widget("record", "BUTTON", "", sent=False)]


def _image_compare(spec: InputSpec, _node: Node) -> list[Widget]:
    return [Widget(spec.name, "IMAGECOMPARE", ["", ""], spec, stored=False, fixed=True)]


def _bounding_box(spec: InputSpec, _node: Node) -> list[Widget]:
    box = _default(spec, "BOUNDING_BOX")
    widgets = [Widget(spec.name, "BOUNDING_BOX", box, spec)]
    sides = box if isinstance(box, dict) else _BOX
    return widgets + [Widget(side, "INT", sides.get(side), sent=False) for side in _BOX]


def _video_edit(spec: InputSpec, _node: Node) -> list[Widget]:
    features = spec.options.get("features")
    features = features if isinstance(features, list) else ["trim", "crop"]
    value: dict[str, Any] = {}
    if "trim" in features:
        value["trim"] = {"start_time": 0, "duration": 0}
    if "crop" in features:
        value["crop"] = {"x": 0, "y": 0, "width": 0, "height": 0}
    stated = spec.options.get("default")
    return [Widget(spec.name, "VIDEO_EDIT", value if stated is None else stated, spec)]


def _load_3d(spec: InputSpec, node: Node) -> list[Widget]:
    name = "viewport_state" if node.type in _VIEWPORT_CLASSES else "image"
    # Buttons have values too, which the editor stores and sends.
    buttons = []
    if node.widget("model_file"):
        buttons = [
            Widget("upload 3d model", "BUTTON", "upload3dmodel"),
            Widget("upload extra resources", "BUTTON", "uploadExtraResources"),
            Widget("clear", "BUTTON", "clear"),
        ]
    return [*buttons, Widget(name, "VIEWER", "", spec, fixed=True)]


def _viewer(spec: InputSpec, _node: Node) -> list[Widget]:
    return [Widget(spec.name, "VIEWER", "", spec, fixed=True)]


_BUILDERS: dict[str, Callable[[InputSpec, Node], list[Widget]]] = {
    "INT": _numbers,
    "FLOAT": _numbers,
    COMBO: _combo,
    DYNAMIC_COMBO: _dynamic_combo,
    "STRING": _text,
    "IMAGEUPLOAD": _upload,
    "AUDIOUPLOAD": _upload,
    "AUDIO_UI": _audio_ui,
    "AUDIO_RECORD": _audio_record,
    "IMAGECOMPARE": _image_compare,
    "BOUNDING_BOX": _bounding_box,
    "VIDEO_EDIT": _video_edit,
    "LOAD_3D": _load_3d,
    "LOAD_3D_ADVANCED": _viewer,
    "PREVIEW_3D": _viewer,
}
