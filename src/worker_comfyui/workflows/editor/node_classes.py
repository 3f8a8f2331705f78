"""ComfyUI's `/object_info` → the inputs of a node class, as the editor sees them.

Before the editor uses a definition it corrects it: upload buttons and viewers are inputs that only
the browser has, but they own places among the stored values (frontend extensions/core/uploadImage,
uploadAudio, saveMesh, load3d).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from worker_comfyui.workflows.editor import javascript

COMBO = "COMBO"
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
AUTOGROW = "COMFY_AUTOGROW_V3"
MATCH_TYPE = "COMFY_MATCHTYPE_V3"
KNOWN_V3 = {DYNAMIC_COMBO, AUTOGROW, MATCH_TYPE}

WIDGET_TYPES = frozenset(
    {
        "INT",
        "FLOAT",
        "BOOLEAN",
        "STRING",
        "MARKDOWN",
        "COMBO",
        "IMAGEUPLOAD",
        "COLOR",
        "IMAGECOMPARE",
        "BOUNDING_BOX",
        "CHART",
        "GALLERIA",
        "PAINTER",
        "COMPOSITOR",
        "TEXTAREA",
        "CURVE",
        "RANGE",
        "VIDEO_EDIT",
        "BOUNDING_BOXES",
        "COLORS",
        "COMFY_DYNAMICCOMBO_V3",
        "AUDIO_UI",
        "AUDIOUPLOAD",
        "AUDIO_RECORD",
        "WEBCAM",
        "LOAD_3D",
        "LOAD_3D_ADVANCED",
        "PREVIEW_3D",
    }
)
"""Types for which the editor makes a widget; any other type is a plain socket."""

_UPLOAD_FLAGS = ("image_upload", "video_upload", "animated_image_upload")
_AUDIO_UI_CLASSES = {
    "LoadAudio",
    "SaveAudio",
    "PreviewAudio",
    "SaveAudioMP3",
    "SaveAudioOpus",
    "SaveAudioAdvanced",
}
_ADDED = {
    **dict.fromkeys(_AUDIO_UI_CLASSES, ("audioUI", "AUDIO_UI")),
    "SaveGLB": ("image", "PREVIEW_3D"),
    "Preview3D": ("image", "PREVIEW_3D"),
    "Load3DAdvanced": ("viewport_state", "LOAD_3D_ADVANCED"),
}


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a node class.

    Attributes:
        name: Its full name; inside a dynamic combo `model.seed`.
        type: What it takes: `IMAGE`, `INT`, `COMBO`, `FLOAT,INT`, ...
        options: Default, bounds, choices and the like.
        optional: Whether ComfyUI runs the node without it.
        takes_any: Whether ComfyUI also takes what is not among the choices.
    """

    name: str
    type: str
    options: Mapping[str, Any]
    optional: bool = False
    takes_any: bool = False

    @property
    def widget_type(self) -> str:
        """The type that decides whether there is a widget, and which."""
        return str(self.options.get("widgetType") or self.type)

    @property
    def is_widget(self) -> bool:
        """Whether the editor shows a widget for it."""
        return self.widget_type in WIDGET_TYPES and not self.options.get("forceInput")

    @property
    def choices(self) -> list[Any]:
        """What a combo offers."""
        choices = self.options.get("options")
        return choices if isinstance(choices, list) else []

    @property
    def takes_several(self) -> bool:
        """Whether the value of a combo is a list."""
        # ComfyUI writes both; the second may be an empty object (comfy_api/latest/_io.py).
        several = self.options.get("multi_select")
        return bool(self.options.get("multiselect")) or javascript.truthy(several)

    @property
    def has_control(self) -> bool:
        """Whether the editor can change its value after each run (`control_after_generate`)."""
        flag = self.options.get("control_after_generate")
        if self.widget_type == "INT" and flag is None:
            # The full name: `model.seed` in a dynamic combo has none (useIntWidget.ts).
            return self.name in {"seed", "noise_seed"}
        return bool(flag)


@dataclass(frozen=True, slots=True)
class NodeClass:
    """A node class of the ComfyUI that will run the workflow.

    Attributes:
        name: The class type.
        title: What the editor calls a node without a title of its own.
        inputs: Required, then optional ones, in the order of the definition.
        ordered: The same in the order in which the editor makes sockets and widgets.
        outputs: Types of the outputs.
    """

    name: str
    title: str
    inputs: tuple[InputSpec, ...]
    ordered: tuple[InputSpec, ...]
    outputs: tuple[str, ...]


def input_spec(name: str, raw: Any, *, optional: bool = False) -> InputSpec:
    """Read one input in either of ComfyUI's shapes: `[["a", "b"], {...}]` or `["INT", {...}]`."""
    parts = raw if isinstance(raw, (list, tuple)) else (raw,)
    first = parts[0] if parts else None
    options = parts[1] if len(parts) > 1 and isinstance(parts[1], Mapping) else {}
    options = {key: value for key, value in options.items() if key not in _NUMBERS} | {
        key: value for key in _NUMBERS if (value := _number(options.get(key))) is not None
    }
    if isinstance(first, (list, tuple)):
        return InputSpec(name, COMBO, {**options, "options": list(first)}, optional)
    return InputSpec(name, first if isinstance(first, str) else "UNKNOWN", options, optional)


_NUMBERS = ("min", "max", "step", "round")


def _number(value: Any) -> float | bool | None:
    """Read a number of an input's options as the editor does; None: there is none to count with.

    Node classes have texts there too, infinity, and anything else. `round` may be true or false.
    """
    if isinstance(value, bool):
        return value
    number = None if value in (None, "") else javascript.number(value)
    return number if number is not None and abs(number) <= sys.float_info.max else None


def input_specs(group: Any, prefix: str = "") -> Iterator[InputSpec]:
    """Read `{"required": {...}, "optional": {...}}`."""
    for section in ("required", "optional"):
        raw = group.get(section) if isinstance(group, Mapping) else None
        if isinstance(raw, Mapping):
            for name, spec in raw.items():
                yield input_spec(f"{prefix}{name}", spec, optional=section == "optional")


class NodeClasses:
    """The node classes of an `/object_info`; each is read when it is first asked for."""

    def __init__(self, object_info: Mapping[str, Any]) -> None:
        self._object_info = object_info
        self._read: dict[str, NodeClass | None] = {}

    def get(self, name: str) -> NodeClass | None:
        """Return a class, or None if this ComfyUI does not have it."""
        if name not in self._read:
            raw = self._object_info.get(name)
            self._read[name] = _node_class(name, raw) if isinstance(raw, Mapping) else None
        return self._read[name]


def _node_class(name: str, raw: Mapping[str, Any]) -> NodeClass:
    required: list[InputSpec] = []
    optional: list[InputSpec] = []
    for spec in input_specs(raw.get("input")):
        # Of a required input it means nothing (stores/nodeDefStore.ts, _migrateDefaultInput).
        if spec.optional and spec.options.get("defaultInput"):
            spec = replace(spec, options={**spec.options, "forceInput": True})  # noqa: PLW2901
        (optional if spec.optional else required).append(spec)
    inputs = (*_with_browser_inputs(name, required), *optional)
    outputs = raw.get("output")
    return NodeClass(
        name,
        str(raw.get("display_name") or name),
        inputs,
        _ordered(inputs, raw.get("input_order")),
        tuple(map(_output_type, outputs if isinstance(outputs, (list, tuple)) else ())),
    )


def _output_type(raw: Any) -> str:
    if isinstance(raw, (list, tuple)):
        return COMBO
    # The editor finds the type by the links; where a bypass asks, it is any.
    return "*" if raw == MATCH_TYPE else str(raw)


def _with_browser_inputs(name: str, required: list[InputSpec]) -> list[InputSpec]:
    """Append the inputs that only the browser has, unless the definition has them."""
    added = []
    uploaded = next((spec for spec in required if spec.type == COMBO and _is_uploaded(spec)), None)
    if uploaded:
        added.append(InputSpec("upload", "IMAGEUPLOAD", uploaded.options))
    if name in _ADDED:
        added.append(InputSpec(*_ADDED[name], {}))
    if any(spec.name == "audio" and spec.options.get("audio_upload") for spec in required):
        added.append(InputSpec("upload", "AUDIOUPLOAD", {}))
    replaced = {spec.name for spec in added}
    return [spec for spec in required if spec.name not in replaced] + added


def _is_uploaded(spec: InputSpec) -> bool:
    return any(spec.options.get(flag) is True for flag in _UPLOAD_FLAGS)


def _ordered(inputs: tuple[InputSpec, ...], input_order: Any) -> tuple[InputSpec, ...]:
    if not isinstance(input_order, Mapping):
        return inputs
    ordered: dict[str, InputSpec] = {}
    by_name = {spec.name: spec for spec in inputs}
    for section in ("required", "optional"):
        names = input_order.get(section)
        for name in names if isinstance(names, (list, tuple)) else ():
            spec = by_name.get(name) if isinstance(name, str) else None
            if spec is not None and spec.optional == (section == "optional"):
                ordered[name] = spec
    # The browser's own are in no list of the server's (workbench/utils/nodeDefOrderingUtil.ts).
    for spec in inputs:
        ordered.setdefault(spec.name, spec)
    return tuple(ordered.values())
