"""The server's folders, and names inside them: what lies where, and what must not be reached."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local_comfyui import extra_model_paths
from local_comfyui.arguments import Arguments

MODEL_KINDS = (
    "checkpoints",
    "configs",
    "loras",
    "vae",
    "text_encoders",
    "diffusion_models",
    "clip_vision",
    "style_models",
    "embeddings",
    "diffusers",
    "vae_approx",
    "controlnet",
    "gligen",
    "upscale_models",
    "custom_nodes",
    "hypernetworks",
    "photomaker",
    "classifiers",
    "model_patches",
    "audio_encoders",
)
"""The answer of ``GET /models`` of ComfyUI 0.3.64."""


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
    def from_arguments(cls, arguments: Arguments, default_base: Path) -> Folders:
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
            extra_models=extra_model_paths.read_all(arguments.extra_model_paths),
        )

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
        names: set[str] = set()
        for folder in self.model_folders(kind):
            names.update(relative_files(folder))
        return sorted(names)

    def annotated_path(self, name: str) -> Path:
        """The file that a loader's value names: ``a.png``, ``sub/a.png`` or ``a.png [output]``.

        Raises:
            OutsideFolderError: The name leads out of its folder. ComfyUI refuses this since
                0.28.0; 0.3.64 reads such a file.
        """
        plain, kind = split_annotation(name)
        return inside(self.by_kind(kind or "input") or self.input, plain)

    def input_files(self) -> list[str]:
        """Names of the files that lie directly in the input folder, sorted."""
        return _plain_files(self.input)

    def output_files(self) -> list[str]:
        """Names of the files that lie directly in the output folder, sorted."""
        return _plain_files(self.output)


def split_annotation(name: str) -> tuple[str, str | None]:
    """Split ``a.png [output]`` into ``a.png`` and ``output``; no annotation gives None."""
    for kind in ("output", "input", "temp"):
        annotation = f"[{kind}]"
        if name.endswith(annotation):
            return name.removesuffix(annotation).removesuffix(" "), kind
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
    if path != root and root not in path.parents:
        raise OutsideFolderError(f"{str(name)!r} leads out of {folder}")
    return path


def relative_files(folder: Path) -> list[str]:
    """Paths of all files below a folder, relative to it, without hidden ones."""
    if not folder.is_dir():
        return []
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        str(path) for path in paths if not any(part.startswith(".") for part in path.parts)
    )


@dataclass(frozen=True)
class SavePath:
    """Where the files of one saving node go: ``folder/{stem}_{counter:05}_.ext``."""

    folder: Path
    subfolder: str
    kind: str
    stem: str
    counter: int

    def file(self, index: int, suffix: str) -> Path:
        """The file number ``index`` of this run."""
        stem = self.stem.replace("%batch_num%", str(index))
        return self.folder / f"{stem}_{self.counter + index:05}_.{suffix}"

    def item(self, path: Path) -> dict[str, str]:
        """How a node's ``ui`` names a file."""
        return {"filename": path.name, "subfolder": self.subfolder, "type": self.kind}

    def write(self, index: int, suffix: str, content: bytes) -> dict[str, str]:
        """Write the file number ``index``; returns its item."""
        path = self.file(index, suffix)
        path.write_bytes(content)
        return self.item(path)


def save_path(folders: Folders, kind: str, prefix: str, size: tuple[int, int] = (0, 0)) -> SavePath:
    """Work out folder, stem and counter of a ``filename_prefix``, and create the folder.

    The prefix may hold a folder and ``%year% %month% %day% %hour% %minute% %second% %width%
    %height%``. The counter follows the highest one in the folder (ComfyUI 0.3.64
    ``folder_paths.get_save_image_path``).

    Raises:
        OutsideFolderError: The prefix leads out of the folder.
    """
    folder = folders.temp if kind == "temp" else folders.output
    relative = Path(_filled(prefix, *size))
    target = inside(folder, relative)
    if target == folder.resolve():
        raise OutsideFolderError(f"{prefix!r} names no file in {folder}")
    target.parent.mkdir(parents=True, exist_ok=True)
    subfolder = str(relative.parent)
    return SavePath(
        folder=target.parent,
        subfolder="" if subfolder == "." else subfolder,
        kind=kind,
        stem=relative.name,
        counter=_highest_counter(target.parent, relative.name) + 1,
    )


def _filled(prefix: str, width: int, height: int) -> str:
    if "%" not in prefix:
        return prefix
    now = time.localtime()
    values = {
        "%width%": str(width),
        "%height%": str(height),
        "%year%": str(now.tm_year),
        "%month%": f"{now.tm_mon:02}",
        "%day%": f"{now.tm_mday:02}",
        "%hour%": f"{now.tm_hour:02}",
        "%minute%": f"{now.tm_min:02}",
        "%second%": f"{now.tm_sec:02}",
    }
    for placeholder, value in values.items():
        prefix = prefix.replace(placeholder, value)
    return prefix


_NUMBER = re.compile(r"_(\d+)(?:_|\.|$)")


def _highest_counter(folder: Path, stem: str) -> int:
    names = (path.name for path in folder.iterdir())
    matches = (
        _NUMBER.match(name, len(stem))
        for name in names
        if name[: len(stem)].lower() == stem.lower()
    )
    return max((int(match[1]) for match in matches if match), default=0)


def _plain_files(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_file())
