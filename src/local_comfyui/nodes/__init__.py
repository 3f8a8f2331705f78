"""The core nodes that need no model, one file per family."""

from __future__ import annotations

from local_comfyui.nodes import (
    audio,
    effects,
    images,
    latents,
    loading,
    masks,
    models,
    saving,
    text,
    video,
)
from local_comfyui.nodes.core_node import CoreNodes, NodeContext
from local_comfyui.prompt import NodeClass

_FAMILIES: tuple[CoreNodes, ...] = (
    loading.NODES,
    images.NODES,
    effects.NODES,
    masks.NODES,
    saving.NODES,
    text.NODES,
    audio.NODES,
    latents.NODES,
    video.NODES,
    models.NODES,
)


def core_node_classes(context: NodeContext) -> dict[str, NodeClass]:
    """Every core node class of this server, by name."""
    return {
        name: node_class
        for family in _FAMILIES
        for name, node_class in family.classes(context).items()
    }
