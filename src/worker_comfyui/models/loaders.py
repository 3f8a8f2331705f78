"""Which inputs of a workflow name models, and of which kind. Pure.

Classes and inputs: a probe of ComfyUI 0.33 (one marker file for each kind, then every class'
INPUT_TYPES), and the GGUF loaders of the pack city96/ComfyUI-GGUF.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from worker_comfyui.comfyui.node_classes import choices_of, inputs_of
from worker_comfyui.models.transfer.content import MODELS
from worker_comfyui.models.transfer.sources import is_source

MAX_FOUND = 500
"""More are not looked at; workflows name some dozens."""
EMBEDDINGS = "embeddings"
EMBEDDING_MARK = "embedding:"
_EMBEDDING = re.compile(r"embedding:([^\s,:()\[\]]{1,200})")

_CLIP = {f"clip_name{number}": "text_encoders" for number in ("", 1, 2, 3, 4)}
_LORA = {"lora_name": "loras"}
_CHECKPOINT = {"ckpt_name": "checkpoints"}
_UNET = {"unet_name": "diffusion_models"}
_CONTROLNET = {"control_net_name": "controlnet"}

FOLDERS: Mapping[str, Mapping[str, str]] = {
    "CheckpointLoader": _CHECKPOINT,
    "CheckpointLoaderSimple": _CHECKPOINT,
    "ImageOnlyCheckpointLoader": _CHECKPOINT,
    "unCLIPCheckpointLoader": _CHECKPOINT,
    "CreateHookModelAsLora": _CHECKPOINT,
    "CreateHookModelAsLoraModelOnly": _CHECKPOINT,
    "LTXVAudioVAELoader": _CHECKPOINT,
    "LTXAVTextEncoderLoader": {**_CHECKPOINT, "text_encoder": "text_encoders"},
    "UNETLoader": _UNET,
    "UnetLoaderGGUF": _UNET,
    "UnetLoaderGGUFAdvanced": _UNET,
    "CLIPLoader": _CLIP,
    "DualCLIPLoader": _CLIP,
    "TripleCLIPLoader": _CLIP,
    "QuadrupleCLIPLoader": _CLIP,
    "CLIPLoaderGGUF": _CLIP,
    "DualCLIPLoaderGGUF": _CLIP,
    "TripleCLIPLoaderGGUF": _CLIP,
    "QuadrupleCLIPLoaderGGUF": _CLIP,
    "LoraLoader": _LORA,
    "LoraLoaderModelOnly": _LORA,
    "LoraLoaderBypass": _LORA,
    "LoraLoaderBypassModelOnly": _LORA,
    "CreateHookLora": _LORA,
    "CreateHookLoraModelOnly": _LORA,
    "TrainLoraNode": {"existing_lora": "loras"},
    "VAELoader": {"vae_name": "vae"},
    "ControlNetLoader": _CONTROLNET,
    "DiffControlNetLoader": _CONTROLNET,
    "CLIPVisionLoader": {"clip_name": "clip_vision"},
    "StyleModelLoader": {"style_model_name": "style_models"},
    "GLIGENLoader": {"gligen_name": "gligen"},
    "HypernetworkLoader": {"hypernetwork_name": "hypernetworks"},
    "PhotoMakerLoader": {"photomaker_model_name": "photomaker"},
    "UpscaleModelLoader": {"model_name": "upscale_models"},
    "LatentUpscaleModelLoader": {"model_name": "latent_upscale_models"},
    "ModelPatchLoader": {"name": "model_patches"},
    "AudioEncoderLoader": {"audio_encoder_name": "audio_encoders"},
    "LoadBackgroundRemovalModel": {"bg_removal_name": "background_removal"},
    "FrameInterpolationModelLoader": {"model_name": "frame_interpolation"},
    "OpticalFlowLoader": {"model_name": "optical_flow"},
    "LoadMediaPipeFaceLandmarker": {"model_name": "detection"},
    "LoadMoGeModel": {"model_name": "geometry_estimation"},
    "LoadDA3Model": {"model_name": "geometry_estimation"},
}
"""The kind of model by class and input."""


@dataclass(frozen=True, slots=True)
class Named:
    """A model that a workflow names.

    Attributes:
        node_id: The node.
        class_type: Its class.
        input: Its input.
        value: What stands there: a file's name, or a URL.
    """

    node_id: str
    class_type: str
    input: str
    value: str

    @property
    def is_url(self) -> bool:
        """Whether it is named by where it can be had."""
        return is_source(self.value)


def named(workflow: Mapping[str, Any]) -> list[Named]:
    """List what may be models in a workflow of the API format: by value, whatever the input."""
    return list(_named(workflow))[:MAX_FOUND]


def _named(workflow: Mapping[str, Any]) -> Iterator[Named]:
    for node_id, node in workflow.items():
        inputs, class_type = node.get("inputs"), node.get("class_type")
        if not isinstance(inputs, Mapping) or not isinstance(class_type, str):
            continue
        for name, value in inputs.items():
            if isinstance(value, str) and is_model(value, class_type, name):
                yield Named(node_id, class_type, name, value)


def embeddings(workflow: Mapping[str, Any]) -> list[Named]:
    """List the embeddings that texts of a workflow name, as `embedding:NAME` in a prompt.

    Source: ComfyUI comfy/sd1_clip.py; a missing one is only a warning in its log.
    """
    found: dict[str, Named] = {}
    for node_id, node in workflow.items():
        inputs, class_type = node.get("inputs"), node.get("class_type")
        for name, value in inputs.items() if isinstance(inputs, Mapping) else ():
            if isinstance(value, str) and EMBEDDING_MARK in value:
                for match in _EMBEDDING.finditer(value):
                    found.setdefault(match[1], Named(node_id, str(class_type), name, match[1]))
    return list(found.values())[:MAX_FOUND]


def is_model(value: str, class_type: str, name: str) -> bool:
    """Tell whether a value may name a model.

    A URL is one only in an input that is known, or where its path has a model's ending: nodes
    take URLs of many other things.
    """
    if is_source(value):
        known = name in FOLDERS.get(class_type, ())
        return known or value.startswith(("hf://", "civitai://")) or _ending(value) in MODELS
    # A prompt may end in the name of a file.
    return len(value) <= 500 and "\n" not in value and _ending(value) in MODELS


def _ending(value: str) -> str:
    plain = re.split(r"[?#@]", value, maxsplit=1)[0] if "://" in value else value
    return PurePosixPath(plain.replace("\\", "/")).suffix.lower()


def choices(definition: Mapping[str, Any] | None, name: str) -> list[str] | None:
    """Return what an input may be, as ComfyUI lists it now; None if it is no choice.

    Args:
        definition: The class' entry of /object_info.
        name: The input.
    """
    found = choices_of(dict(inputs_of(definition or {})).get(name))
    return None if found is None else [choice for choice in found if isinstance(choice, str)]


def folder_of(
    class_type: str,
    name: str,
    listed: Sequence[str] | None,
    folders: Callable[[], Mapping[str, Sequence[str]]],
) -> str | None:
    """Return the kind of model that an input takes; None if that cannot be told.

    Args:
        class_type: The node's class.
        name: The input.
        listed: What the input may be.
        folders: Lists the files of every kind: asked only where the class is not known.
    """
    known = FOLDERS.get(class_type, {}).get(name)
    if known or not listed:
        return known
    options = set(listed)
    fitting = {
        folder: len(files) for folder, files in folders().items() if files and options >= set(files)
    }
    if not fitting:
        return None
    # Lists may have a "none" beside the files, so the kind with most of them counts, if it is one.
    most = max(fitting.values())
    best = [folder for folder, count in fitting.items() if count == most]
    return best[0] if len(best) == 1 and 2 * most >= len(options) else None
