"""The server's folders, and names inside them: what lies where, and what must not be reached."""

from __future__ import annotations

import mimetypes
import os
import shutil
from argparse import Namespace
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from local_comfyui import extra_model_paths

MODEL_KINDS = (
    *("checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models"),
    *("clip_vision", "style_models", "embeddings", "diffusers", "vae_approx", "controlnet"),
    *("gligen", "upscale_models", "custom_nodes", "hypernetworks", "photomaker", "classifiers"),
    *("model_patches", "audio_encoders"),
)
"""The answer of ``GET /models`` of ComfyUI 0.3.64."""

_MODEL_SUFFIXES = {".bin", ".ckpt", ".pkl", ".pt", ".pt2", ".pth", ".safetensors", ".sft"}
_KINDS_OF_ANY_FILE = ("classifiers", "configs", "custom_nodes", "diffusers")


class OutsideFolderError(ValueError):
    """A name or subfolder leads out of the folder that it must stay in."""


@dataclass(frozen=True)
class Folders:
    """Where the server reads and writes."""

    base: Path
    input: Path
    output: Path
    temp: Path
    user: Path
    models: Path
    custom_nodes: Path
    extra_models: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    @classmethod
    def from_arguments(cls, arguments: Namespace, default_base: Path) -> Folders:
        """Lay out the folders as ComfyUI does: each below the base unless named by itself.

        Raises:
            FileNotFoundError: A file of ``--extra-model-paths-config`` does not exist.
        """
        base = (arguments.base_directory or default_base).absolute()
        return cls(
            base=base,
            input=(arguments.input_directory or base / "input").absolute(),
            output=(arguments.output_directory or base / "output").absolute(),
            temp=(arguments.temp_directory or base).absolute() / "temp",
            user=(arguments.user_directory or base / "user").absolute(),
            models=(arguments.models_directory or base / "models").absolute(),
            custom_nodes=base / "custom_nodes",
            extra_models=extra_model_paths.read_all(chain(*arguments.extra_model_paths_config)),
        )

    @property
    def model_kinds(self) -> list[str]:
        """The kinds of models: ComfyUI's own, then those that extra folders add."""
        return list(dict.fromkeys((*MODEL_KINDS, *self.extra_models)))

    def create(self) -> None:
        """Create what is missing, and begin with an empty temp folder, as ComfyUI does."""
        self.remove_temp()
        for folder in (self.input, self.output, self.user, self.custom_nodes):
            folder.mkdir(parents=True, exist_ok=True)

    def remove_temp(self) -> None:
        """Delete the temp folder: done at start and at exit."""
        shutil.rmtree(self.temp, ignore_errors=True)

    def by_kind(self, kind: str) -> Path | None:
        """The folder that files of this ``type`` lie in; None for an unknown type."""
        return {"input": self.input, "output": self.output, "temp": self.temp}.get(kind)

    def model_folders(self, kind: str) -> tuple[Path, ...]:
        """Every folder that holds models of a kind."""
        return (self.models / kind, *self.extra_models.get(kind, ()))

    def model_files(self, kind: str) -> list[str]:
        """Names of the models of a kind, relative to their folder, sorted."""
        names = {name for folder in self.model_folders(kind) for name in _models(folder)}
        if kind not in _KINDS_OF_ANY_FILE:
            names = {name for name in names if Path(name).suffix in _MODEL_SUFFIXES}
        return sorted(names)

    def input_files(self, media: Collection[str] = ()) -> list[str]:
        """Names of the files directly in the input folder, sorted; only of these media, if any."""
        names = sorted(path.name for path in self.input.iterdir() if path.is_file())
        return [name for name in names if not media or _medium(name) in media]

    def annotated_path(self, name: str) -> Path:
        """The file that a loader's value names: ``a.png``, ``sub/a.png`` or ``a.png [output]``.

        Raises:
            OutsideFolderError: The name leads out of its folder. ComfyUI refuses this since
                0.28.0; 0.3.64 reads such a file.
        """
        plain, kind = split_annotation(name)
        return inside(self.by_kind(kind or "input") or self.input, plain)


def _models(folder: Path) -> Iterator[str]:
    """Paths of all files below a folder, relative to it, through links too."""
    for parent, _, names in os.walk(folder, followlinks=True):
        yield from (str(Path(parent, name).relative_to(folder)) for name in names)


def _medium(name: str) -> str:
    """The first half of a file's media type, as its name tells it."""
    return (mimetypes.guess_type(name)[0] or "").partition("/")[0]


def split_annotation(name: str) -> tuple[str, str | None]:
    """Split ``a.png [output]`` into ``a.png`` and ``output``; no annotation gives None."""
    for kind in ("output", "input", "temp"):
        if name.endswith(f"[{kind}]"):
            return name.removesuffix(f"[{kind}]").removesuffix(" "), kind
    return name, None


def inside(folder: Path, name: str | Path) -> Path:
    """Join a name to a folder and make sure that it stays there.

    Raises:
        OutsideFolderError: It does not.
    """
    root = folder.resolve()
    try:
        path = (root / name).resolve()
    except ValueError as error:  # a null byte
        raise OutsideFolderError(f"{str(name)!r} is not a file name") from error
    if not path.is_relative_to(root):
        raise OutsideFolderError(f"{str(name)!r} leads out of {folder}")
    return path
