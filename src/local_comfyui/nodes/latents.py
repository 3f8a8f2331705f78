"""Empty latents, and saving latents (ComfyUI 0.3.64 ``nodes.py``)."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

from local_comfyui.nodes.core_node import CoreNodes, NodeContext
from local_comfyui.prompt import Json

NODES = CoreNodes()

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Latents:
    """A ``LATENT`` that no model has filled: all zero."""

    shape: tuple[int, ...]
    """Batch, channels, height, width; height and width are an eighth of the image's."""

    def to_bytes(self) -> bytes:
        """The values as 32-bit floats."""
        count = 1
        for side in self.shape:
            count *= side
        return bytes(count * _FLOAT_BYTES)


@NODES.node("EmptyLatentImage")
def empty_latent(_context: NodeContext, width: int, height: int, batch_size: int) -> Latents:
    """Zeros for an image of this size."""
    return Latents((batch_size, 4, height // 8, width // 8))


@NODES.node("SaveLatent")
def save_latent(
    context: NodeContext,
    samples: Latents,
    filename_prefix: str = "ComfyUI",
    prompt: Json | None = None,
    extra_pnginfo: Json | None = None,
) -> Json:
    """Save as a safetensors file in the output folder."""
    path = context.save_path("output", filename_prefix)
    content = _safetensors(samples, context.metadata(prompt, extra_pnginfo))
    return {"ui": {"latents": [path.write(0, "latent", content)]}}


def _safetensors(latents: Latents, metadata: dict[str, str]) -> bytes:
    data = latents.to_bytes()
    header: Json = {
        "latent_tensor": _tensor(list(latents.shape), 0, len(data)),
        "latent_format_version_0": _tensor([0], len(data), len(data)),
    }
    if metadata:
        header["__metadata__"] = metadata
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def _tensor(shape: list[int], start: int, end: int) -> Json:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
