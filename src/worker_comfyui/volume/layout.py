"""Which folders of a volume hold which kind of model.

Kinds and file endings: ComfyUI folder_paths.py (0.3.64 to 0.38).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Self

EXTRA_MODEL_PATHS = Path(__file__).parents[2] / "extra_model_paths.yaml"
"""The project's list of folders, in ComfyUI's own format."""

WEIGHTS = frozenset({".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"})
OTHER_ENDINGS = {"configs": frozenset({".yaml"}), "classifiers": frozenset({""})}
FOLDER_KINDS = frozenset({"diffusers"})
"""Kinds whose models are folders, not files."""


@dataclass(frozen=True)
class Layout:
    """A place for models.

    Attributes:
        root: The volume's root, or the folder in which another `models` folder lies.
        folders: The folders of each kind, relative to the root (`models/loras`), the kind's own
            folder first.
    """

    root: Path
    folders: Mapping[str, tuple[str, ...]]

    @classmethod
    def read(cls, root: Path, path: Path = EXTRA_MODEL_PATHS) -> Self:
        """Read the list of folders; without the file there is no kind.

        Raises:
            OSError: it cannot be read.
        """
        if not path.is_file():
            return cls(root, {})
        # Imported here: where no volume is mounted, ComfyUI's start must not wait for it.
        import yaml  # noqa: PLC0415

        [section] = yaml.safe_load(path.read_text(encoding="utf-8")).values()
        del section["base_path"]
        return cls(root, {kind: tuple(text.split()) for kind, text in section.items()})

    @cached_property
    def kinds(self) -> dict[str, str]:
        """The kind by the name of its folder, old names included: `unet` → `diffusion_models`."""
        return {
            PurePosixPath(folder).name: kind
            for kind, folders in self.folders.items()
            for folder in folders
        }

    def split(self, path: str) -> tuple[str, str] | None:
        """Split a file's path (relative to the root) into its kind and its name there."""
        for kind, folders in self.folders.items():
            for folder in folders:
                if path.startswith(f"{folder}/"):
                    return kind, path[len(folder) + 1 :]
        return None


def endings(kind: str) -> frozenset[str]:
    """Return the file endings, in lower case, that ComfyUI lists for a kind."""
    return OTHER_ENDINGS.get(kind, WEIGHTS)
