"""Where a model lies that a refused workflow asks for, and what to do about it.

Loaders: ComfyUI 0.3.64 (/object_info).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

from worker_comfyui.config import Settings
from worker_comfyui.errors import Detail
from worker_comfyui.volume import cached_models, report, survey, walk, weights
from worker_comfyui.volume.layout import WEIGHTS, Layout

log = logging.getLogger(__name__)

MAX_ENTRIES = 30_000
MAX_SECONDS = 3.0
MAX_PLACES = 5

LOADERS = {
    "checkpoints": "CheckpointLoaderSimple",
    "loras": "LoraLoader",
    "vae": "VAELoader",
    "text_encoders": "CLIPLoader",
    "diffusion_models": "UNETLoader",
    "clip_vision": "CLIPVisionLoader",
    "controlnet": "ControlNetLoader",
    "style_models": "StyleModelLoader",
    "gligen": "GLIGENLoader",
    "upscale_models": "UpscaleModelLoader",
    "hypernetworks": "HypernetworkLoader",
    "photomaker": "PhotoMakerLoader",
    "audio_encoders": "AudioEncoderLoader",
    "model_patches": "ModelPatchLoader",
}
"""A node that loads models of each kind."""
# Whose inputs do not tell: `clip_name`, `name`, `model_name`.
KINDS_BY_CLASS = {
    "CLIPVisionLoader": "clip_vision",
    "ModelPatchLoader": "model_patches",
    "UpscaleModelLoader": "upscale_models",
}
KINDS_BY_INPUT = {
    "ckpt_name": "checkpoints",
    "lora_name": "loras",
    "vae_name": "vae",
    "clip_name": "text_encoders",
    "unet_name": "diffusion_models",
    "control_net_name": "controlnet",
    "style_model_name": "style_models",
    "gligen_name": "gligen",
    "hypernetwork_name": "hypernetworks",
    "photomaker_model_name": "photomaker",
    "audio_encoder_name": "audio_encoders",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file lies.

    Attributes:
        shown: Its path for people.
        path: Its whole path; None if it needs no look at.
        kind: The kind of models of the folder that it lies in, if it is one's.
        name: Its name in that folder.
        note: Why it is not used, if that is known already.
    """

    shown: str
    path: Path | None
    kind: str | None
    name: str
    note: str | None = None


class MissingModels:
    """Looks for the models of one refused workflow; the volume is read once, when needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._advice = cache(self._advise)  # a workflow may name the same model often

    def locate(self, detail: Detail) -> Detail:
        """Add to a detail of a value that is not among the choices where such a file lies."""
        received = detail.get("received")
        if not isinstance(received, str) or not is_model(received):
            return detail
        wanted = kind_of_input(str(detail.get("class_type")), str(detail.get("input")))
        found, hint = self._advice(received, wanted)
        if not found:
            return detail
        message = f"{detail['message']}; {hint}"
        return {**detail, "found_at": found, "hint": hint, "message": message}

    def _advise(self, received: str, wanted: str | None) -> tuple[list[str], str]:
        found = sorted(self._places.get(bare(received), ()), key=lambda place: place.kind != wanted)
        if not found:
            return [], ""
        hint = f"found at {found[0].shown}: {advise(found[0], wanted, received)}"
        return [place.shown for place in found[:MAX_PLACES]], hint

    @cached_property
    def _places(self) -> dict[str, list[Place]]:
        report.start(self._settings)
        by_name: dict[str, list[Place]] = {}
        try:
            for place in _files_of(Layout.read(self._settings.runpod_volume_path)):
                by_name.setdefault(bare(place.name), []).append(place)
        except OSError as error:  # the refusal is to be told all the same
            log.warning("the network volume cannot be searched for models: %s", error)
        return by_name


def _files_of(layout: Layout) -> Iterator[Place]:
    """Yield all files of a volume that may be models, within bounds of entries and time."""
    root = layout.root
    if not root.is_dir():
        return
    budget = walk.Budget(entries=MAX_ENTRIES, seconds=MAX_SECONDS)
    for model in cached_models.find(layout, budget):
        for path, reason in model.left_out.items():
            yield Place(f"{path} of the cached model {model.repository}", None, None, path, reason)
    for relative, entry in survey.files(root, budget):
        kind, name = layout.split(relative) or (None, relative)
        yield Place(relative, Path(entry.path), kind, name)


def is_model(value: str) -> bool:
    """Tell whether a value is the name of a file of weights."""
    return PurePosixPath(value).suffix.lower() in WEIGHTS | {".gguf"}


def kind_of_input(class_type: str, name: str) -> str | None:
    """Return the kind of models that a loader's input takes; None if that is not known."""
    # DualCLIPLoader has clip_name1 and clip_name2.
    return KINDS_BY_CLASS.get(class_type) or KINDS_BY_INPUT.get(name.rstrip("1234567890"))


def bare(name: str) -> str:
    """Reduce a path to what is compared: no folder, no case, no mark of an unfinished download."""
    path = PurePosixPath(name.replace("\\", "/").lower())
    return path.stem if weights.is_partial(path.name) else path.name


def advise(place: Place, wanted: str | None, received: str) -> str:
    """Say what to do about a file that ComfyUI does not list under the name received."""
    if place.note:
        return place.note
    kind = wanted or place.kind or "checkpoints"
    if place.path and (problem := weights.problem(place.path, kind)):
        return problem
    if wanted is None:
        return "move it to the folder that this node reads"
    if place.kind != wanted:
        move = f"move it to models/{wanted}"
        loader = LOADERS.get(place.kind or "")
        return f"{move}, or load it with {loader}" if loader else move
    if place.name != received:
        return f"its name here is {place.name!r}"
    return "ComfyUI does not list it; its log says which folders it searches"
