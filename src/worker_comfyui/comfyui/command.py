"""How ComfyUI is started, and which folders it then uses. Pure.

Flags: ComfyUI 0.3.64 comfy/cli_args.py; unknown ones stop ComfyUI, so only old ones are used.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from worker_comfyui.config import Settings
from worker_comfyui.errors import ConfigurationError

DEFAULT_UPLOAD_MB = 100
"""What ComfyUI takes without `--max-upload-size`; its MB are 1,048,576 bytes."""


class _Flags(argparse.ArgumentParser):
    """Reads some of ComfyUI's flags out of its command line."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise: argparse would end the worker's thread, and nobody would know why."""
        raise ConfigurationError(f"COMFYUI_ARGS: {message}")


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of a ComfyUI on this machine, where the worker cleans up after a job."""

    input: Path
    output: Path
    temp: Path

    @classmethod
    def of(cls, root: Path, flags: Sequence[str]) -> Self:
        """Derive them as ComfyUI does from its own folder and the flags it is started with.

        Relative folders count from ComfyUI's own, in which it is started.

        Raises:
            ConfigurationError: a flag has no value.
        """
        parser = _Flags()
        for flag in ("base", "input", "output", "temp"):
            parser.add_argument(f"--{flag}-directory", type=Path)
        given, _ = parser.parse_known_args(flags)
        root = root.absolute()
        base = root / (given.base_directory or "")
        return cls(
            input=root / (given.input_directory or base / "input"),
            output=root / (given.output_directory or base / "output"),
            temp=root / (given.temp_directory or base) / "temp",
        )


def models_folder(root: Path, flags: Sequence[str]) -> Path:
    """Derive the folder of ComfyUI's own models, as `Folders.of` derives the others.

    Raises:
        ConfigurationError: a flag has no value.
    """
    parser = _Flags()
    for flag in ("base", "models"):
        parser.add_argument(f"--{flag}-directory", type=Path)
    given, _ = parser.parse_known_args(flags)
    base = root.absolute() / (given.base_directory or "")
    return base / (given.models_directory or "models")


def command(settings: Settings, port: int, extra_model_paths: Path | None = None) -> list[str]:
    """Make the command line. The operator's own flags come last, so that they win.

    Paths are absolute: the process is started in ComfyUI's folder.

    Args:
        settings: All settings.
        port: Where it is to listen, unless the operator says otherwise.
        extra_model_paths: A file for ComfyUI beside those that the operator gives: it reads all.
    """
    flags = ["--disable-auto-launch", "--verbose", settings.comfy_log_level]
    if extra_model_paths:  # it takes all words up to the next flag: it cannot come last
        flags[:0] = ["--extra-model-paths-config", str(extra_model_paths.absolute())]
    if not settings.embed_metadata:
        flags.append("--disable-metadata")
    if not _has_flag(settings.comfyui_args, "--listen"):
        flags += ["--listen", "127.0.0.1"]
    if not _has_flag(settings.comfyui_args, "--port"):
        flags += ["--port", str(port)]
    if settings.max_input_mb > DEFAULT_UPLOAD_MB:
        flags += ["--max-upload-size", str(math.ceil(settings.max_input_mb))]
    python = settings.comfyui_python or sys.executable
    return [
        str(Path(python).absolute()) if "/" in python else python,
        "-u",
        str(settings.comfyui_path.absolute() / "main.py"),
        *flags,
        *settings.comfyui_args,
    ]


def given_port(settings: Settings) -> int | None:
    """Return the port that COMFYUI_ARGS asks for, if any.

    Raises:
        ConfigurationError: it is no number.
    """
    parser = _Flags()
    parser.add_argument("--port", type=int)
    port: int | None = parser.parse_known_args(settings.comfyui_args)[0].port
    return port


def _has_flag(arguments: Sequence[str], flag: str) -> bool:
    return any(word == flag or word.startswith(f"{flag}=") for word in arguments)
