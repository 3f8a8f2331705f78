"""How ComfyUI is started, and which folders it then uses.

Flags: ComfyUI 0.3.64 comfy/cli_args.py; unknown ones stop ComfyUI, so only old ones are used.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, Self

from worker_comfyui.comfyui.process import bootstrap
from worker_comfyui.config import Settings
from worker_comfyui.errors import ConfigurationError

DEFAULT_UPLOAD_MB = 100
"""What ComfyUI takes without `--max-upload-size`; its MB are 1,048,576 bytes."""

_ENVIRONMENTS = (
    "venv/bin/python",
    ".venv/bin/python",
    "python_embeded/python",  # spelled so in ComfyUI's portable package
    "python_embeded/python.exe",
    "../python_embeded/python.exe",
)
"""Where ComfyUI's own Python is, by its manual and by comfy-cli."""


class _Flags(argparse.ArgumentParser):
    """Reads some of ComfyUI's flags out of its command line."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise: argparse would end the worker's thread, and nobody would know why."""
        raise ConfigurationError(f"COMFYUI_ARGS: {message}")


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of a ComfyUI on this machine, where its jobs' files are.

    Attributes:
        input, output, temp: ComfyUI's own three.
        private: Those that no other worker, of now or later, ever sees.
    """

    input: Path
    output: Path
    temp: Path
    private: frozenset[Path] = field(default=frozenset(), kw_only=True)

    @classmethod
    def of(cls, root: Path, flags: Sequence[str]) -> Self:
        """Derive them as ComfyUI does from its own folder and the flags it is started with.

        Relative folders count from ComfyUI's own, in which it is started.

        Raises:
            ConfigurationError: a flag has no value.
        """
        given = _folder_flags(flags)
        root = root.absolute()
        base = root / (given.base_directory or "")
        return cls(
            input=root / (given.input_directory or base / "input"),
            output=root / (given.output_directory or base / "output"),
            temp=root / (given.temp_directory or base) / "temp",
        )

    def flags(self) -> list[str]:
        """Return the flags that make ComfyUI use them. It adds `temp` itself to the last."""
        return [
            *("--input-directory", str(self.input)),
            *("--output-directory", str(self.output)),
            *("--temp-directory", str(self.temp.parent)),
        ]


@dataclass(frozen=True, slots=True)
class FolderFlags:
    """Which of its folders the operator names by flags."""

    input: bool
    output: bool
    temp: bool

    @classmethod
    def of(cls, flags: Sequence[str]) -> Self:
        """Look for the flags.

        Raises:
            ConfigurationError: a flag has no value.
        """
        given = _folder_flags(flags)
        return cls(
            input=given.input_directory is not None,
            output=given.output_directory is not None,
            temp=given.temp_directory is not None,
        )


def _folder_flags(flags: Sequence[str]) -> argparse.Namespace:
    parser = _Flags()
    for flag in ("base", "input", "output", "temp"):
        parser.add_argument(f"--{flag}-directory", type=Path)
    return parser.parse_known_args(flags)[0]


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


def command(
    settings: Settings, *, port: int, folders: Folders, extra_model_paths: Path | None = None
) -> list[str]:
    """Make the command line. The operator's own flags come late, so that they win.

    Paths are absolute: the process is started in ComfyUI's folder.

    Args:
        settings: All settings.
        port: Where it is to listen, unless the operator says otherwise.
        folders: What it is to use; last, since another worker may use what the operator names.
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
    # The form around a file needs no room of its own: ComfyUI's MB are larger.
    if settings.max_input_mb > DEFAULT_UPLOAD_MB:
        flags += ["--max-upload-size", str(math.ceil(settings.max_input_mb))]
    return [
        interpreter(settings),
        str(Path(bootstrap.__file__).absolute()),
        str(settings.comfyui_path.absolute() / "main.py"),
        *flags,
        *settings.comfyui_args,
        *folders.flags(),
    ]


def interpreter(settings: Settings) -> str:
    """Return the Python for ComfyUI: the one that is set, one beside ComfyUI, or the worker's."""
    if settings.comfyui_python:
        python = settings.comfyui_python
        return str(Path(python).absolute()) if "/" in python else python
    root = settings.comfyui_path.absolute()
    beside = (root / place for place in _ENVIRONMENTS)
    return next((str(path) for path in beside if path.is_file()), sys.executable)


def given_port(settings: Settings) -> int | None:
    """Return the port that COMFYUI_ARGS asks for, if any.

    Raises:
        ConfigurationError: it is no number.
    """
    parser = _Flags()
    parser.add_argument("--port", type=int)
    port: int | None = parser.parse_known_args(settings.comfyui_args)[0].port
    return port


def host(settings: Settings) -> str:
    """Return where to reach it, of the addresses on which COMFYUI_ARGS let it listen."""
    parser = _Flags()
    parser.add_argument("--listen", nargs="?", const="0.0.0.0,::", default="127.0.0.1")
    given: str = parser.parse_known_args(settings.comfyui_args)[0].listen
    addresses = [address.strip() for address in given.split(",")]
    if {"127.0.0.1", "0.0.0.0", "localhost"} & set(addresses):  # noqa: S104  # nosec B104
        return "127.0.0.1"
    first = {"::": "::1"}.get(addresses[0], addresses[0])
    return f"[{first}]" if ":" in first else first


def _has_flag(arguments: Sequence[str], flag: str) -> bool:
    return any(word == flag or word.startswith(f"{flag}=") for word in arguments)


def problems(settings: Settings) -> list[str]:
    """List what is wrong with where ComfyUI is and, as far as the worker reads it, COMFYUI_ARGS."""
    found = [] if settings.comfy_host else _misplaced(settings)
    readers: tuple[Callable[[], object], ...] = (
        lambda: given_port(settings),
        lambda: FolderFlags.of(settings.comfyui_args),
        lambda: models_folder(settings.comfyui_path, settings.comfyui_args),
    )
    for read in readers:
        try:
            read()
        except ConfigurationError as error:
            found.append(error.message)
    if any(_has_flag(settings.comfyui_args, flag) for flag in ("--tls-keyfile", "--tls-certfile")):
        found.append("COMFYUI_ARGS: the worker speaks plain HTTP with ComfyUI: leave out --tls-*")
    return list(dict.fromkeys(found))


def _misplaced(settings: Settings) -> list[str]:
    found = []
    main = settings.comfyui_path / "main.py"
    if not main.is_file():
        found.append(f"COMFYUI_PATH must be ComfyUI's folder, but there is no {main}")
    python = interpreter(settings)
    if settings.comfyui_python and shutil.which(python) is None:
        found.append(f"COMFYUI_PYTHON must be a Python that can be run, which {python} is not")
    return found
