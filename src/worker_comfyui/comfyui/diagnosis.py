"""Why ComfyUI ended: from its exit code and the last lines of its log. Pure."""

from __future__ import annotations

import signal
from collections.abc import Sequence

_OLD_DRIVER = (
    "the host's NVIDIA driver is too old for the image's CUDA version: filter the endpoint's "
    "hosts by CUDA version, or use an image for an older one"
)
_HINTS = (
    (
        "Found no NVIDIA driver",
        "no GPU is visible: start the container on a GPU worker, with the NVIDIA runtime",
    ),
    (
        "no kernel image is available",
        "the image's PyTorch does not support this GPU: choose another GPU type or CUDA version",
    ),
    (
        "driver on your system is too old",
        _OLD_DRIVER,
    ),
    (
        "unsatisfied condition: cuda",
        _OLD_DRIVER,
    ),
    (
        "CUDA unknown error",
        "the host's GPU is in a bad state: replace the worker, and report the host if it stays",
    ),
    ("out of memory", "memory ran out: use a larger GPU or a smaller model"),
    ("No space left on device", "the disk is full: give the endpoint a larger container disk"),
    ("already in use", "another process has the port: change `--port` in COMFYUI_ARGS"),
    ("unrecognized arguments", "this version of ComfyUI does not know a flag in COMFYUI_ARGS"),
    ("cannot be run", "there is no such interpreter: set COMFYUI_PYTHON"),
    ("can't open file", "there is no ComfyUI in that folder: set COMFYUI_PATH"),
    (
        "ModuleNotFoundError",
        "a Python package is missing from ComfyUI's environment, often one of a custom node",
    ),
    ("Torch not compiled with CUDA enabled", "PyTorch was installed without CUDA"),
)


def exit_reason(code: int) -> str:
    """Say in words how a process ended; negative codes are signals, as in `subprocess`."""
    if code >= 0:
        return f"exited with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    if code == -signal.SIGKILL:
        return f"was killed ({name}), most often because memory ran out"
    return f"was ended by {name}"


def hint(log_lines: Sequence[str]) -> str | None:
    """Return what to do about the failure that the log's last lines show, if it is a known one."""
    text = "\n".join(log_lines).lower()
    return next((advice for sign, advice in _HINTS if sign.lower() in text), None)
