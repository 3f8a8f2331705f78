"""Which node classes are ComfyUI's own, so that one that is missing here gets the right advice.

``core_classes.txt`` has the names in ``GET /object_info`` of ComfyUI 0.3.64 and 0.33.0.
"""

from __future__ import annotations

import functools
from pathlib import Path

from local_comfyui.prompt import Json, NodeClasses

HINT = (
    "it is one of ComfyUI's own, but not of this stand-in, which runs no models. For all of them "
    "name a real ComfyUI: COMFYUI_PATH (its folder) or COMFY_HOST (host:port of one that runs)"
)


@functools.cache
def core_classes() -> frozenset[str]:
    """The names of all of ComfyUI's own node classes."""
    return frozenset(Path(__file__).with_suffix(".txt").read_text("utf-8").splitlines())


def about_missing(prompt: Json, classes: NodeClasses, first: str) -> tuple[str, Json]:
    """What to say beyond ComfyUI's own words about the ``first`` class that is missing here.

    Returns:
        An addition to the error's ``details``, and its ``extra_info``: ``hint``, and under
        ``only_in_comfyui`` all classes in the prompt that the hint is about; empty without any.
    """
    wanted = {str(node.get("class_type")) for node in prompt.values() if isinstance(node, dict)}
    lacking = sorted((wanted & core_classes()) - set(classes))
    if not lacking:
        return "", {}
    hint = f": {HINT}" if first in lacking else ""
    return hint, {"only_in_comfyui": lacking, "hint": HINT}
