from __future__ import annotations

import errno
import os

import pytest

from worker_comfyui.comfyui.diagnosis import exit_reason, hint


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0, "exited with code 0"),
        (1, "exited with code 1"),
        (137, "exited with code 137"),
        (-9, "was killed (SIGKILL), most often because memory ran out"),
        (-15, "was ended by SIGTERM"),
        (-11, "was ended by SIGSEGV"),
        (-250, "was ended by signal 250"),
    ],
)
def test_an_exit_code_is_said_in_words(code: int, reason: str) -> None:
    assert exit_reason(code) == reason


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "RuntimeError: Found no NVIDIA driver on your system. Please check that you have",
            "no GPU is visible",
        ),
        (
            "RuntimeError: CUDA error: no kernel image is available for execution on the device",
            "does not support this GPU",
        ),
        (
            "RuntimeError: The NVIDIA driver on your system is too old (found version 12020).",
            "driver is too old",
        ),
        (
            "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.6",
            "driver is too old",
        ),
        ("RuntimeError: CUDA unknown error - this may be due to", "bad state"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", "memory ran out"),
        (f"OSError: [Errno 28] {os.strerror(errno.ENOSPC)}: '/comfyui/temp'", "disk is full"),
        (
            "OSError: [Errno 98] error while attempting to bind on address: address already in use",
            "another process has the port",
        ),
        ("main.py: error: unrecognized arguments: --nope", "does not know a flag"),
        ("python: can't open file '/nowhere/main.py': [Errno 2] No such file", "COMFYUI_PATH"),
        ("/nowhere/python cannot be run: No such file or directory", "COMFYUI_PYTHON"),
        ("ModuleNotFoundError: No module named 'cv2'", "Python package is missing"),
        ("AssertionError: Torch not compiled with CUDA enabled", "without CUDA"),
    ],
)
def test_a_known_failure_comes_with_advice(line: str, words: str) -> None:
    advice = hint(["Total VRAM 24576 MB", line, "  File x, line 1"])
    assert advice is not None
    assert words in advice


def test_the_cause_goes_before_what_comes_of_it() -> None:
    log = ["ModuleNotFoundError: No module named 'x'", "RuntimeError: Found no NVIDIA driver"]
    assert "no GPU is visible" in (hint(log) or "")


@pytest.mark.parametrize("log", [[], ["all is well"], [""]])
def test_an_unknown_failure_comes_without_advice(log: list[str]) -> None:
    assert hint(log) is None
