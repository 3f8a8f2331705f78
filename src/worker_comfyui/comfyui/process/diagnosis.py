"""Why ComfyUI ended, or must end: from its exit code and its log. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from worker_comfyui.comfyui.process.bootstrap import EXECUTOR_ENDED, SIGN


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one run of ComfyUI.

    Attributes:
        reason: What happened, as a clause: `ComfyUI was killed (SIGKILL)`.
        run_again: Whether the job in hand may run once more. False where the job itself, run
            again, would certainly do the same.
    """

    reason: str
    run_again: bool = True


SHOWN_LINES = 15
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
        (
            "a Python package is missing: often one of a custom node; else set COMFYUI_PYTHON to "
            "the Python that ComfyUI is installed in"
        ),
    ),
    ("Torch not compiled with CUDA enabled", "PyTorch was installed without CUDA"),
)


def with_log(reason: str, log_lines: Sequence[str]) -> str:
    """Say why a start failed, with advice, and the end of the log."""
    advice = hint(log_lines)
    text = f"{reason}. {advice[0].upper()}{advice[1:]}." if advice else f"{reason}."
    shown = log_lines[-SHOWN_LINES:]
    if shown:
        text += " The end of its log:\n" + "\n".join(f"  {line}" for line in shown)
    return text


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


_EXCEPTION = re.compile(r"(\w+\.)*\w*(Error|Exception|Exit|Interrupt|Warning)(: .*)?$")
_NOT_JSON = re.compile(
    r"TypeError: Object of type .* is not JSON serializable|TypeError: keys must be str, int"
    r"|ValueError: Circular reference detected|UnicodeEncodeError: .* surrogates not allowed"
)
"""ComfyUI sends what a node reports over the websocket, and ends where that fails (server.py,
`publish_loop`)."""
MAX_EXCEPTION = 300
_STICKY = re.compile(
    "an illegal memory access was encountered|device-side assert triggered"
    "|unspecified launch failure|an illegal instruction was encountered|misaligned address"
    "|hardware stack error|invalid program counter|operation not supported on global/shared address"
    "|uncorrectable ECC error|the launch timed out and was terminated"
    "|CUBLAS_STATUS_EXECUTION_FAILED|CUDNN_STATUS_EXECUTION_FAILED|fallen off the bus",
    re.IGNORECASE,
)
"""Errors of a GPU after which the process must be ended: every later call gives them again.
Source: https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html (cudaError)."""


def death(code: int, log_lines: Sequence[str]) -> Ended:
    """Say why the process ended by itself.

    Args:
        code: Its exit code, negative for signals.
        log_lines: The end of its log.
    """
    if code == EXECUTOR_ENDED:
        signs = [line.removeprefix(SIGN) for line in log_lines if line.startswith(SIGN)]
        why = f" with {signs[-1][:MAX_EXCEPTION]}" if signs else ""
        return Ended(
            f"a node ended the thread of ComfyUI that runs workflows{why}", run_again=False
        )
    exception = last_exception(log_lines)
    if exception and _NOT_JSON.match(exception):
        return Ended(
            f"a node returned something that is not JSON, and ComfyUI ended ({exception})",
            run_again=False,
        )
    why = f" ({exception})" if exception and code > 0 else ""
    return Ended(f"ComfyUI {exit_reason(code)}{why}")


def last_exception(log_lines: Sequence[str]) -> str | None:
    """Return the exception at the end of the log's last traceback: `ValueError: no such thing`."""
    in_traceback, found = False, None
    for line in log_lines:
        if line.lstrip().startswith("Traceback (most recent call last)"):
            in_traceback = True
        elif in_traceback and not line[:1].isspace() and _EXCEPTION.match(line):
            in_traceback, found = False, line[:MAX_EXCEPTION]
    return found


def unusable(error: str) -> str | None:
    """Tell from an error of a node whether every later workflow will fail as well, and why."""
    found = _STICKY.search(error)
    return f"the GPU can no longer be used by this ComfyUI: {found[0]}" if found else None
