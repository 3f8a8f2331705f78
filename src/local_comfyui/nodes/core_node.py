"""From a plain function to a node class: the declaration comes from ComfyUI's recorded one.

``definitions.json`` holds, for every node of this package, what ``GET /object_info`` of ComfyUI
0.3.64 says about it: inputs with their limits, outputs, category. So a family file holds only what
a node does, and names and limits cannot drift from ComfyUI's.
"""

from __future__ import annotations

import copy
import functools
import json
import random
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_comfyui.folders import Folders, SavePath, save_path
from local_comfyui.prompt import AnyType, Json, NodeClass

_DEFINITIONS = Path(__file__).with_name("definitions.json")

Options = Callable[["NodeContext"], list[str]]


@dataclass(frozen=True)
class NodeContext:
    """What nodes need of the server they run in."""

    folders: Folders
    save_metadata: bool = True
    temp_prefix: str = field(default_factory=lambda: f"_temp_{_five_letters()}")

    def save_path(self, kind: str, prefix: str, size: tuple[int, int] = (0, 0)) -> SavePath:
        """Where a saving node of this ``type`` writes (`folders.save_path`)."""
        if kind == "temp":
            prefix += self.temp_prefix
        return save_path(self.folders, kind, prefix, size)

    def metadata(self, prompt: Json | None, extra_pnginfo: Json | None) -> dict[str, str]:
        """What is written into a saved file: the prompt, the workflow, each as JSON."""
        if not self.save_metadata:
            return {}
        entries = {} if prompt is None else {"prompt": prompt}
        return {
            name: json.dumps(value) for name, value in (entries | (extra_pnginfo or {})).items()
        }


def _five_letters() -> str:
    letters = random.choices(string.ascii_lowercase, k=5)  # noqa: S311 - a name, no secret
    return "".join(letters)


@dataclass(frozen=True)
class _Declared:
    function: Callable[..., Any]
    options: Mapping[str, Options]
    is_changed: Callable[..., Any] | None
    validate: Callable[..., Any] | None
    takes_lists: bool


class CoreNodes:
    """A family of nodes, filled by the decorator `node`."""

    def __init__(self) -> None:
        self._declared: dict[str, _Declared] = {}

    def node(
        self,
        name: str,
        *,
        options: Mapping[str, Options] | None = None,
        is_changed: Callable[..., Any] | None = None,
        validate: Callable[..., Any] | None = None,
        takes_lists: bool = False,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a function as the node class ``name``.

        Args:
            name: Its name in ``definitions.json``.
            options: Inputs whose choices are only known at run time, such as files.
            is_changed: Called like the function; a new value makes the node run again.
            validate: Called with the inputs that it names; True or a text about what is wrong.
            takes_lists: Every input is a list of all its values (``INPUT_IS_LIST``).

        The functions take the context first, then the node's inputs by name. They return the
        node's output, a tuple for several, or a mapping with ``ui`` as ComfyUI's nodes do.
        """

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            self._declared[name] = _Declared(
                function, options or {}, is_changed, validate, takes_lists
            )
            return function

        return register

    def classes(self, context: NodeContext) -> dict[str, NodeClass]:
        """The node classes of this family."""
        return {
            name: _node_class(name, declared, context) for name, declared in self._declared.items()
        }


@functools.cache
def definitions() -> Json:
    """The recorded declarations by node name."""
    content: Json = json.loads(_DEFINITIONS.read_text(encoding="utf-8"))
    return content


def _node_class(name: str, declared: _Declared, context: NodeContext) -> NodeClass:
    definition = definitions()[name]

    def input_types(_cls: type) -> Json:
        inputs: Json = copy.deepcopy(definition["input"])
        for config in inputs["required"].values():
            if config[0] == "*":
                config[0] = AnyType("*")
        for input_name, options in declared.options.items():
            section = "required" if input_name in inputs["required"] else "optional"
            inputs[section][input_name][0] = options(context)
        return inputs

    def run(_self: object, **inputs: Any) -> Any:
        result = declared.function(context, **inputs)
        return result if isinstance(result, dict | tuple) else (result,)

    attributes: Json = {
        "INPUT_TYPES": classmethod(input_types),
        "RETURN_TYPES": tuple(definition["output"]),
        "RETURN_NAMES": tuple(definition["output_name"]),
        "OUTPUT_IS_LIST": tuple(definition["output_is_list"]),
        "OUTPUT_NODE": definition["output_node"],
        "DEFINITION": definition,
        "INPUT_IS_LIST": declared.takes_lists,
        "FUNCTION": "run",
        "run": run,
    }
    if declared.is_changed is not None:
        attributes["IS_CHANGED"] = functools.partial(declared.is_changed, context)
    if declared.validate is not None:
        attributes["VALIDATE_INPUTS"] = functools.partial(declared.validate, context)
    return type(name, (), attributes)
