from __future__ import annotations

from typing import Any

import pytest

from tests.support.recorded import SCENARIOS, transcript
from worker_comfyui.comfyui.ending import MAX_MESSAGE, cached_nodes, failure
from worker_comfyui.errors import (
    DiskFull,
    ExecutionFailed,
    ExecutionInterrupted,
    OutOfMemory,
)

FAILED = {
    "cancel_queued_and_running": "INTERRUPTED",
    "execution_error": "EXECUTION_FAILED",
    "execution_out_of_memory": "OUT_OF_MEMORY",
    "load_corrupt_image": "EXECUTION_FAILED",
}
ENTRIES = [
    (scenario, entry) for scenario in SCENARIOS for entry in transcript(scenario).entries().values()
]


def ended(kind: str, **data: Any) -> dict[str, Any]:
    messages = [["execution_start", {}], ["execution_cached", {"nodes": []}], [kind, data]]
    return {"status": {"status_str": "error", "completed": False, "messages": messages}}


def raised(exception_type: str, message: str) -> dict[str, Any]:
    return ended(
        "execution_error",
        node_id="3",
        node_type="KSampler",
        exception_type=exception_type,
        exception_message=message,
        traceback=['  File "/comfyui/execution.py", line 496, in execute\n'],
        current_inputs={"seed": [5]},
    )


@pytest.mark.parametrize(("scenario", "entry"), ENTRIES)
def test_every_recorded_end_is_read_right(scenario: str, entry: dict[str, Any]) -> None:
    error = failure(entry)
    assert (error.code if error else None) == FAILED.get(scenario)


@pytest.mark.parametrize("scenario", FAILED)
def test_a_recorded_failure_names_its_node_without_comfyui_s_traceback(scenario: str) -> None:
    (entry,) = transcript(scenario).entries().values()
    error = failure(entry)
    assert error is not None
    (detail,) = error.details
    assert entry["prompt"][2][detail["node_id"]]["class_type"] == detail["class_type"]
    assert f"node {detail['node_id']} ({detail['class_type']})" in error.message
    told = str(error.as_result())
    assert "Traceback" not in told
    assert "execution.py" not in told


def test_an_interrupted_prompt_is_no_failure_of_a_node() -> None:
    (entry,) = transcript("cancel_queued_and_running").entries().values()
    assert entry["status"]["status_str"] == "error"
    assert isinstance(failure(entry), ExecutionInterrupted)


def test_an_exception_is_named_with_its_message() -> None:
    (entry,) = transcript("execution_error").entries().values()
    error = failure(entry)
    assert isinstance(error, ExecutionFailed)
    assert (
        error.message == "node 3 (ProbeFail) raised RuntimeError: probe: the node failed on purpose"
    )
    assert error.details == [
        {
            "node_id": "3",
            "class_type": "ProbeFail",
            "exception_type": "RuntimeError",
            "message": "probe: the node failed on purpose",
        }
    ]
    assert error.retryable is False


@pytest.mark.parametrize(
    ("exception_type", "message"),
    [
        ("torch.OutOfMemoryError", "Allocation on device"),
        ("torch.cuda.OutOfMemoryError", ""),
        ("MemoryError", ""),
        ("numpy.core._exceptions._ArrayMemoryError", "out of memory"),
        ("RuntimeError", "CUDA out of memory. Tried to allocate 20.00 MiB"),
        ("RuntimeError", "HIP out of memory. Tried to allocate 20.00 MiB"),
        ("torch.AcceleratorError", "CUDA error: out of memory\nCompile with"),
        ("numpy._core._exceptions._ArrayMemoryError", "Unable to allocate 7.45 GiB for an array"),
        ("RuntimeError", "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        ("OSError", "[Errno 12] Cannot allocate memory"),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_out_of_memory_is_recognised_in_all_its_forms(exception_type: str, message: str) -> None:
    error = failure(raised(exception_type, message))
    assert isinstance(error, OutOfMemory)
    assert error.message.startswith("node 3 (KSampler) ran out of memory. Use a smaller image")
    assert error.details[0]["exception_type"] == exception_type


@pytest.mark.parametrize(
    ("exception_type", "message"),
    [
        ("OSError", "[Errno 28] No space left on device"),
        ("safetensors.SafetensorError", "Error while serializing: I/O error (os error 28)"),
        ("OSError", "[Errno 122] Disk quota exceeded: '/comfyui/output/a.png'"),
        ("sqlite3.OperationalError", "database or disk is full"),
        ("RuntimeError", "PytorchStreamWriter failed writing file data/7: file write failed"),
    ],
)
def test_a_full_disk_is_recognised_in_all_its_forms(exception_type: str, message: str) -> None:
    error = failure(raised(exception_type, message))
    assert isinstance(error, DiskFull)
    assert error.message.startswith("node 3 (KSampler) could not write: ")


def test_a_node_that_reads_the_editor_s_workflow_says_how_to_send_it() -> None:
    entry = raised("KeyError", "'workflow'")
    entry["prompt"] = [1, "id", {}, {"extra_pnginfo": {}}, ["3"]]
    error = failure(entry)
    assert type(error) is ExecutionFailed
    assert "node 3 (KSampler) reads the editor's workflow" in error.message
    assert "`extra_data.extra_pnginfo.workflow`" in error.message

    entry["prompt"][3]["extra_pnginfo"] = {"workflow": {"nodes": []}}
    told = failure(entry)
    assert told is not None
    assert told.message == "node 3 (KSampler) raised KeyError: 'workflow'"


def test_other_exceptions_are_not_called_out_of_memory() -> None:
    error = failure(raised("ValueError", "no memory of this"))
    assert type(error) is ExecutionFailed


def test_a_long_message_is_cut() -> None:
    error = failure(raised("ValueError", "x" * 1_000_000))
    assert error is not None
    assert len(error.details[0]["message"]) == MAX_MESSAGE
    assert len(error.message) < MAX_MESSAGE + 100


def test_an_exception_without_a_message_is_named() -> None:
    error = failure(raised("KeyError", ""))
    assert error is not None
    assert error.details[0]["message"] == "KeyError"
    assert error.message.startswith("node 3 (KSampler) raised KeyError")


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"status": None},
        {"status": "error"},
        {"status": {"completed": False}},
        {"status": {"completed": False, "messages": None}},
        {"status": {"completed": False, "messages": "text"}},
        {"status": {"completed": False, "messages": [None, [], ["execution_error"], [1, 2, 3]]}},
        {"status": {"completed": False, "messages": [["execution_error", None]]}},
    ],
)
def test_an_entry_that_does_not_say_is_a_failure(entry: dict[str, Any]) -> None:
    error = failure(entry)
    assert type(error) is ExecutionFailed
    assert "not why" in error.message
    assert cached_nodes(entry) == set()


@pytest.mark.parametrize("kind", ["execution_error", "execution_interrupted"])
def test_a_failure_without_any_data_is_still_one(kind: str) -> None:
    assert failure(ended(kind)) is not None


def test_a_completed_entry_without_messages_is_a_success() -> None:
    assert failure({"status": {"completed": True, "messages": []}}) is None


def test_cached_nodes_are_those_of_a_repeated_prompt() -> None:
    first, second = transcript("same_prompt_twice").entries().values()
    assert cached_nodes(first) == set()
    assert cached_nodes(second) == set(second["prompt"][2])
