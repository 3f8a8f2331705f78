"""What ComfyUI's node classes take and give, asked once for each class.

Shapes: GET /object_info of ComfyUI 0.3.64 (server.py `node_info`); newer versions add fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from worker_comfyui.comfyui import old_names
from worker_comfyui.comfyui.old_names import Replacements
from worker_comfyui.job import Workflow

_FILE_TYPES = frozenset(
    ("COMBO", "WEBCAM", "AUDIO_RECORD", "LOAD_3D", "LOAD_3D_ANIMATION", "LOAD_3D_ADVANCED")
)
"""Types of inputs that ComfyUI's nodes read as names of files, in an object too (comfy_extras:
nodes_webcam.py, nodes_audio.py, nodes_load_3d.py; nodes.py: LoadImageOutput, whose choices are
not in its description)."""

NodeClass = dict[str, Any]
"""An entry of /object_info."""


MAX_UNKNOWN = 20
"""Classes of a workflow that need not exist: nobody asks for thousands of made-up ones."""


class NodeClasses:
    """The classes of one ComfyUI; what they are does not change while it runs.

    The choices of an input may change (models, input files): they are as they were when the class
    was first asked for.

    Args:
        ask: Describes a class; None: there is none of that name.
        ask_replacements: Answers GET /node_replacements; asked once.
    """

    def __init__(
        self,
        ask: Callable[[str], NodeClass | None],
        ask_replacements: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._ask = ask
        self._ask_replacements = ask_replacements
        self._known: dict[str, NodeClass] = {}
        self._replacements: Replacements | None = None

    def get(self, class_type: str) -> NodeClass | None:
        """Return what a class takes and gives; None: there is none of that name.

        Raises:
            ComfyUnavailable: ComfyUI did not answer.
        """
        if class_type not in self._known:
            found = self._ask(class_type)
            if found is None:
                return None
            self._known[class_type] = found
        return self._known[class_type]

    def output_nodes(self, workflow: Workflow) -> list[str]:
        """Return the nodes that save or show something; where MAX_UNKNOWN is passed, some of them.

        ComfyUI refuses such a workflow.
        """
        described: dict[str, NodeClass | None] = {}
        unknown = 0
        for name in dict.fromkeys(node["class_type"] for node in workflow.values()):
            described[name] = self.get(name)
            unknown += described[name] is None
            if unknown > MAX_UNKNOWN:
                break
        return [
            node_id
            for node_id, node in workflow.items()
            if (described.get(node["class_type"]) or {}).get("output_node") is True
        ]

    def of_today(self, workflow: Workflow) -> Workflow:
        """Return the workflow with the classes that this ComfyUI has in place of old ones."""
        if self._replacements is None:
            self._replacements = old_names.read(self._ask_replacements())
        old = self._replacements
        found = {
            name: old[name]
            for name in old.keys() & {node["class_type"] for node in workflow.values()}
            if self.get(name) is None and self.get(old[name].class_type)
        }
        return old_names.replaced(workflow, found) if found else workflow


def inputs_of(node_class: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the name and the configuration of each input, as `[type or choices, {...}?]`."""
    groups = node_class.get("input")
    for group in ("required", "optional"):
        found = groups.get(group) if isinstance(groups, dict) else None
        yield from found.items() if isinstance(found, dict) else ()


def limits_of(config: Any) -> dict[str, Any]:
    """Return what an input's configuration says beside its type."""
    limits = config[1] if isinstance(config, (list, tuple)) and len(config) > 1 else {}
    return limits if isinstance(limits, dict) else {}


def choices_of(config: Any) -> list[Any] | None:
    """Return the choices of an input, in either of ComfyUI's two shapes; None: it has none."""
    first = config[0] if isinstance(config, (list, tuple)) and config else None
    if first == "COMBO":
        first = limits_of(config).get("options")
    return list(first) if isinstance(first, (list, tuple)) else None


def type_of(config: Any) -> str | None:
    """Name the type that an input takes; a list of choices has none."""
    first = config[0] if isinstance(config, (list, tuple)) and config else None
    return first if isinstance(first, str) else None


def upload_group(config: Any) -> str | None:
    """Name the field of the request whose files an input takes; None: it takes no input file."""
    limits = limits_of(config)
    flags = [key for key, value in limits.items() if key.endswith("_upload") and value]
    if not flags:
        return None
    return "images" if "image_upload" in flags else "files"


def takes_file(config: Any) -> bool:
    """Tell whether an input's text may name a file in one of ComfyUI's folders."""
    if upload_group(config) or choices_of(config) is not None:
        return True
    return type_of(config) in _FILE_TYPES
