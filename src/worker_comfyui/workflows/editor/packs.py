"""What the JavaScript of node packs does when the editor loads and exports their nodes.

Only what people's files need, as of the packs' versions of 2026: VideoHelperSuite, rgthree,
KJNodes, ComfyUI-Custom-Scripts (pysssss), AnimateDiff-Evolved. Virtual nodes of packs are in
`virtual`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from worker_comfyui.workflows.editor.graph import Node, Widget
from worker_comfyui.workflows.editor.node_classes import COMBO, input_spec

_VIDEO = ["video", "force_rate", "force_size", "frame_load_cap", "skip_first_frames"]
_OLD_LISTS: dict[str, list[str]] = {
    "VHS_VideoCombine": [
        "frame_rate",
        "loop_count",
        "filename_prefix",
        "format",
        "pingpong",
        "save_output",
    ],
    "VHS_LoadVideo": [*_VIDEO, "select_every_nth"],
    "VHS_LoadVideoPath": [*_VIDEO, "select_every_nth"],
    "VHS_LoadImages": [
        "directory",
        "",  # the button for uploads
        "image_load_cap",
        "skip_first_images",
        "select_every_nth",
    ],
    "VHS_LoadImagesPath": [
        "directory",
        "image_load_cap",
        "skip_first_images",
        "select_every_nth",
    ],
}
_SIZE = re.compile(r"(\d+|\?)x(\d+|\?)", re.ASCII)
_LORA_LOADER = "Power Lora Loader (rgthree)"
_SHOW_TEXT = "ShowText|pysssss"
_PICTURED = {"CheckpointLoader|pysssss", "LoraLoader|pysssss"}
_COUNTED = (
    "ConditioningMultiCombine",
    "CrossFadeImagesMulti",
    "ImageAddMulti",
    "ImageBatchMulti",
    "ImageConcatMulti",
    "JoinStringMulti",
    "MaskBatchMulti",
    "TransitionImagesMulti",
)
_REPEATER = "Repeater|pysssss"


def prepare(node: Node) -> None:
    """Change a node, or what the file stores for it, before its values are restored."""
    handler = _HANDLERS.get(node.type)
    if handler is None and node.type.startswith("VHS_"):
        handler = _video
    if handler is None and node.type.startswith("ADE_"):
        handler = _sized
    if handler is not None:
        handler(node)


def _video(node: Node) -> None:
    """VideoHelperSuite stores an object; its older versions stored a list."""
    names = _OLD_LISTS.get(node.type)
    if isinstance(node.stored, list):
        if names is None or not node.stored:
            return
        node.stored = dict(zip(names, node.stored, strict=False))
        # The first versions had no such input, and the button for uploads in its place.
        if isinstance(node.stored.get("select_every_nth"), str):
            del node.stored["select_every_nth"]
    values = dict(node.stored)
    if "save_image" in values:
        values.setdefault("save_output", values.pop("save_image"))
    _force_size(values)
    _add_unknown_widgets(node, values)
    _add_format_widgets(node, values)
    node.stored = values


def _sized(node: Node) -> None:
    """AnimateDiff-Evolved's nodes store "" at the end, for the widget that fits their size."""
    stored = node.stored
    is_text = bool(node.widgets) and node.widgets[-1].kind == "STRING"
    if isinstance(stored, list) and stored[-1:] == [""] and not is_text:
        node.stored = stored[:-1]


def _force_size(values: dict[str, Any]) -> None:
    """Older versions had one text for the two sizes: `512x?`, `Custom Width`, ..."""
    forced = values.get("force_size")
    if not isinstance(forced, str):
        return
    size = _SIZE.fullmatch(forced)
    if size is not None:
        for name, side in zip(("custom_width", "custom_height"), size.groups(), strict=True):
            values[name] = 0 if side == "?" else int(side[:6])  # more digits are no size
    elif forced in {"Disabled", "Custom Height"}:
        values["custom_width"] = 0
    if forced in {"Disabled", "Custom Width"}:
        values["custom_height"] = 0


def _add_unknown_widgets(node: Node, values: dict[str, Any]) -> None:
    """Make widgets for the types that the pack registers in the browser, such as VHSTIMESTAMP."""
    for slot in node.inputs:
        stored = values.get(slot.name)
        if slot.widget is None and isinstance(stored, str | int | float):
            slot.widget = slot.name
            node.widgets.append(Widget(slot.name, slot.type, stored))


def _add_format_widgets(node: Node, values: dict[str, Any]) -> None:
    """Make the widgets that come with the chosen format."""
    for widget in list(node.widgets):
        formats = widget.spec.options.get("formats") if widget.spec else None
        chosen = values.get(widget.name, widget.value)
        if not isinstance(formats, dict) or not isinstance(chosen, str):
            continue
        extra = formats.get(chosen)
        entries = extra if isinstance(extra, list) else ()
        made = [_format_widget(entry) for entry in entries if isinstance(entry, list) and entry]
        place = node.widgets.index(widget) + 1
        node.widgets[place:place] = [new for new in made if not node.widget(new.name)]


def _format_widget(entry: list[Any]) -> Widget:
    spec = input_spec(str(entry[0]), entry[1:])
    value = spec.options.get("default")
    if value is None:
        no_choice: Any = False if spec.type == "BOOLEAN" else 0
        value = spec.choices[0] if spec.type == COMBO and spec.choices else no_choice
    return Widget(spec.name, spec.type, value, spec)


def _loras(node: Node) -> None:
    """The loader's LoRAs are objects in the list; what else is in it are its header and button."""
    loras = [value for value in _listed(node) if isinstance(value, dict) and "lora" in value]
    both = node.properties.get("Show Strengths") == "Separate Model & Clip"
    header = {"type": "PowerLoraLoaderHeaderWidget"}
    node.widgets = [Widget("PowerLoraLoaderHeaderWidget", "HEADER", header)]
    for number, lora in enumerate(loras, 1):
        sent = {key: value for key, value in lora.items() if both or key != "strengthTwo"}
        if both and sent.get("strengthTwo") is None:
            sent["strengthTwo"] = 1
        node.widgets.append(Widget(f"lora_{number}", "LORA", sent))
    node.widgets.append(Widget("\N{HEAVY PLUS SIGN} Add Lora", "BUTTON", ""))
    node.stored = []


def _listed(node: Node) -> list[Any]:
    return node.stored if isinstance(node.stored, list) else list(node.stored.values())


def _shown_text(node: Node) -> None:
    """ShowText sends what it last showed; the node ignores it."""
    shown = _listed(node)
    texts = shown[0] if shown and isinstance(shown[0], list) else shown
    node.widgets += [
        Widget(f"text_{number}", "STRING", text)
        for number, text in enumerate(text for text in texts if isinstance(text, str))
    ]
    node.stored = []


def _pictured(node: Node) -> None:
    """The loaders with pictures store `{"content": name, ...}` in place of the name."""
    if isinstance(node.stored, list):
        node.stored = [
            value["content"] if isinstance(value, dict) and "content" in value else value
            for value in node.stored
        ]
        if len(node.stored) > 1:
            node.widgets.append(Widget("example", "STRING", node.stored[-1], stored=False))


def _counted(node: Node) -> None:
    """KJNodes' nodes with a changing number of inputs have a button, which the editor sends."""
    node.widgets.append(Widget("Update inputs", "BUTTON", None))


def _compared(node: Node) -> None:
    """The comparer sends the pictures that it last showed; the node ignores them."""
    images = _listed(node)
    shown = {"images": images[0]} if images and isinstance(images[0], list) else {}
    node.widgets.append(Widget("rgthree_comparer", "IMAGES", shown))
    node.stored = []


def _displayed(node: Node) -> None:
    node.widgets.append(Widget("output", "STRING", "", stored=False))


_HANDLERS: dict[str, Callable[[Node], None]] = {
    _LORA_LOADER: _loras,
    _SHOW_TEXT: _shown_text,
    **dict.fromkeys(_PICTURED, _pictured),
    **dict.fromkeys(_COUNTED, _counted),
    "Image Comparer (rgthree)": _compared,
    "Display Any (rgthree)": _displayed,
}


def fault(node: Node) -> str | None:
    """Say why a node of a pack cannot be converted, although ComfyUI has its class."""
    mode = node.widget("node_mode") if node.type == _REPEATER else None
    if mode is not None and mode.value == "create":
        return "in its mode `create`, its copies are made in the browser"
    return None
