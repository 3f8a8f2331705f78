from __future__ import annotations

import errno
import os

import pytest

from worker_comfyui.comfyui.process.bootstrap import EXECUTOR_ENDED, SIGN
from worker_comfyui.comfyui.process.diagnosis import Ended, death, exit_reason, hint, unusable


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
        ("ModuleNotFoundError: No module named 'torch'", "set COMFYUI_PYTHON"),
        (
            "ModuleNotFoundError: No module named 'cv2'",
            "often one of a custom node",
        ),
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


NOT_JSON = [
    "Traceback (most recent call last):",
    '  File "main.py", line 363, in <module>',
    "    event_loop.run_until_complete(x)",
    '  File "server.py", line 1401, in publish_loop',
    "    await self.send(*msg)",
    "TypeError: Object of type ndarray is not JSON serializable",
]


def test_a_node_that_ended_the_executor_is_not_run_again() -> None:
    ended = death(EXECUTOR_ENDED, ["Traceback ...", f"{SIGN}SystemExit: 3"])
    assert ended == Ended(
        "a node ended the thread of ComfyUI that runs workflows with SystemExit: 3",
        "executor",
        run_again=False,
    )


def test_what_is_not_json_is_the_cause_of_the_end_and_is_not_run_again() -> None:
    ended = death(1, [*NOT_JSON, "Exception ignored in: <coroutine>"])
    assert ended.cause == "output"
    assert ended.run_again is False
    assert "something that is not JSON" in ended.reason
    assert "Object of type ndarray is not JSON serializable" in ended.reason


@pytest.mark.parametrize(
    ("code", "log", "reason"),
    [
        (-9, [], "ComfyUI was killed (SIGKILL), most often because memory ran out"),
        (1, [], "ComfyUI exited with code 1"),
        (1, ["ValueError: not in a traceback"], "ComfyUI exited with code 1"),
        (
            1,
            ["Traceback (most recent call last):", "  File x", "OSError: [Errno 28] No space left"],
            "ComfyUI exited with code 1 (OSError: [Errno 28] No space left)",
        ),
        (
            1,
            ["Traceback (most recent call last):", "  File x", "torch.OutOfMemoryError: CUDA"],
            "ComfyUI exited with code 1 (torch.OutOfMemoryError: CUDA)",
        ),
    ],
)
def test_any_other_death_is_said_with_its_exception_and_the_job_may_run_again(
    code: int, log: list[str], reason: str
) -> None:
    assert death(code, log) == Ended(reason, "died", run_again=True)


def test_an_exception_of_many_characters_is_cut() -> None:
    log = ["Traceback (most recent call last):", f"ValueError: {'x' * 5000}"]
    assert len(death(1, log).reason) < 400


@pytest.mark.parametrize(
    "error",
    [
        "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be",
        "CUDA error: device-side assert triggered",
        "CUDA error: unspecified launch failure",
        "CUDA error: misaligned address",
        "Triton Error [CUDA]: an illegal memory access was encountered",
        "CUDA error: uncorrectable ECC error encountered",
        "HIP error: an illegal instruction was encountered",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(...)`",
    ],
)
def test_an_error_that_a_gpu_repeats_for_ever_is_known(error: str) -> None:
    reason = unusable(error)
    assert reason is not None
    assert reason.startswith("the GPU can no longer be used by this ComfyUI: ")


@pytest.mark.parametrize(
    "error",
    [
        "CUDA out of memory. Tried to allocate 20.00 GiB",
        "CUDA error: out of memory",
        "CUDA error: invalid configuration argument",
        "mat1 and mat2 shapes cannot be multiplied (77x768 and 1024x320)",
        "",
    ],
)
def test_an_error_that_passes_is_none_of_them(error: str) -> None:
    assert unusable(error) is None
