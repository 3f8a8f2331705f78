"""The start of every workflow with a model: declared, so that it is refused as by ComfyUI.

A ComfyUI without the model file refuses such a prompt with ``value_not_in_list`` at the loader;
these declarations give the same answer here. No model is ever loaded: where the file exists, the
loader fails with a sentence that says so.
"""

from __future__ import annotations

from typing import Any, NoReturn

from local_comfyui.nodes.core_node import CoreNodes, NodeContext

NODES = CoreNodes()


class NoModelsError(RuntimeError):
    """A node was asked to do what needs a model."""


def _checkpoints(context: NodeContext) -> list[str]:
    return context.folders.model_files("checkpoints")


@NODES.node("CheckpointLoaderSimple", options={"ckpt_name": _checkpoints})
@NODES.node("VAEDecode")
def refuse(_context: NodeContext, **_inputs: Any) -> NoReturn:
    """Say that there are no models here.

    Raises:
        NoModelsError: Always.
    """
    raise NoModelsError(
        "local_comfyui runs no models. Set COMFYUI_PATH or COMFY_HOST to use a real ComfyUI."
    )
