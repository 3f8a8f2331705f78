"""From a plain function to a node class: the declaration comes from ComfyUI's recorded one.

``definitions.json`` holds, for every node of this package, what ``GET /object_info`` of ComfyUI
0.3.64 says about it: inputs with their limits, outputs, category. So the other files hold only
what a node does, and names and limits cannot drift from ComfyUI's.

The values that nodes hand to each other are ComfyUI's, with numpy's arrays in place of torch's
tensors: float32 between 0 and 1.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import random
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from local_comfyui.folders import Folders, OutsideFolderError
from local_comfyui.progress import Report
from local_comfyui.prompt import AnyType, Json, NodeClass
from local_comfyui.save_path import SavePath, save_path

DEFINITIONS: Json = json.loads(Path(__file__).with_name("definitions.json").read_text("utf-8"))
"""The recorded declarations by node name."""

Array = npt.NDArray[np.float32]
"""An ``IMAGE`` (batch, height, width, channels) or a ``MASK`` (batch, height, width)."""

Ui = dict[str, Any]
"""What an output node returns: ``{"ui": {key: [...]}}``."""


@dataclass(frozen=True)
class Comfy:
    """What a node may ask of the server that it runs in, and of the prompt that it is in."""

    folders: Folders
    save_metadata: bool
    report: Report
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What is written into a saved file: the prompt, the workflow, each as JSON."""
    temp_suffix: str = "_temp_" + "".join(random.choices(string.ascii_lowercase, k=5))  # noqa: S311  # nosec B311  # no secret

    def save_path(self, kind: str, prefix: str, size: tuple[int, int] = (0, 0)) -> SavePath:
        """Where a saving node of this ``type`` writes (`save_path.save_path`)."""
        suffix = self.temp_suffix if kind == "temp" else ""
        return save_path(self.folders, kind, prefix + suffix, size)

    def with_metadata(self, prompt: Json | None, extra_pnginfo: Json | None) -> Comfy:
        """This, for a node of a prompt."""
        entries = {"prompt": prompt, **(extra_pnginfo or {})} if self.save_metadata else {}
        return replace(self, metadata={name: json.dumps(entries[name]) for name in entries})


@dataclass(frozen=True)
class InputFile:
    """An input that names a file, which must exist; the node runs again when it has changed."""

    input: str
    noun: str
    """What a message calls the file."""
    media: tuple[str, ...] = ()
    """Which files are offered; all, if empty."""

    def checks(self, folders: Folders) -> Json:
        """What ComfyUI's loaders say about their file: does it exist, has it changed."""

        def is_changed(**inputs: str) -> str:
            with folders.annotated_path(inputs[self.input]).open("rb") as opened:
                return hashlib.file_digest(opened, "sha256").hexdigest()

        def exists(**inputs: str) -> bool | str:
            try:
                found = folders.annotated_path(inputs[self.input]).exists()
            except OutsideFolderError:
                found = False
            return True if found else f"Invalid {self.noun} file: {inputs[self.input]}"

        # ComfyUI reads from a check's signature which inputs it is about.
        parameter = inspect.Parameter(self.input, inspect.Parameter.KEYWORD_ONLY)
        exists.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
        return {"IS_CHANGED": is_changed, "VALIDATE_INPUTS": exists}


@dataclass(frozen=True)
class Node:
    """How a function becomes a node class.

    The function takes the node's inputs by name, and `Comfy` if it has a parameter ``comfy``. It
    returns the node's output, a tuple for several, or a mapping with ``ui`` as ComfyUI's nodes do.
    """

    function: Callable[..., Any]
    file: InputFile | None = None
    model: tuple[str, str] | None = None
    """The input that names a model, and the kind of that model."""
    always_changed: bool = False
    """It runs in every prompt, never from the cache."""

    def build(self, name: str, comfy: Comfy) -> NodeClass:
        """Make the class; ``name`` is the node's in ``definitions.json``."""
        definition = DEFINITIONS[name]
        takes_comfy = "comfy" in inspect.signature(self.function).parameters

        def run(_self: object, **inputs: Any) -> Any:
            prompt, extra_pnginfo = inputs.pop("prompt", None), inputs.pop("extra_pnginfo", None)
            if takes_comfy:
                inputs["comfy"] = comfy.with_metadata(prompt, extra_pnginfo)
            result = self.function(**inputs)
            return result if isinstance(result, dict | tuple) else (result,)

        attributes: Json = {
            "INPUT_TYPES": staticmethod(lambda: self._input_types(name, comfy.folders)),
            "RETURN_TYPES": tuple(definition["output"]),
            "RETURN_NAMES": tuple(definition["output_name"]),
            "OUTPUT_IS_LIST": tuple(definition["output_is_list"]),
            "OUTPUT_NODE": definition["output_node"],
            "DEFINITION": definition,
            "FUNCTION": "run",
            "run": run,
        }
        if self.always_changed:
            attributes["IS_CHANGED"] = lambda **_inputs: float("nan")
        return type(name, (), attributes | (self.file.checks(comfy.folders) if self.file else {}))

    def _input_types(self, name: str, folders: Folders) -> Json:
        """The declared inputs, with the choices that are only known at run time."""
        inputs: Json = copy.deepcopy(DEFINITIONS[name]["input"])
        choices: dict[str, list[str]] = {}
        if self.file:
            choices[self.file.input] = folders.input_files(self.file.media)
        if self.model:
            choices[self.model[0]] = folders.model_files(self.model[1])
        for each, config in inputs["required"].items():
            if config[0] == "*":
                config[0] = AnyType("*")
            if each in choices and config[0] == "COMBO":
                config[1]["options"] = choices[each]
            elif each in choices:
                config[0] = choices[each]
        return inputs
