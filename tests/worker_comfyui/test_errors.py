from __future__ import annotations

import errno
import json
import os
import re
import time

import pytest

from worker_comfyui import errors
from worker_comfyui.errors import (
    MAX_RESULT_BYTES,
    Detail,
    DiskFull,
    InvalidRequest,
    JobError,
    StartError,
    WorkerError,
    disk_errors,
    public_errors,
)
from worker_comfyui.strict import clean

TABLE = list(public_errors())
JOB_ERRORS = [error for error in TABLE if issubclass(error, JobError)]


def test_the_table_has_every_class_of_the_tree_with_its_code() -> None:
    drawn = re.findall(r"── (\w+) +([A-Z_]+)$", errors.__doc__ or "", re.MULTILINE)
    assert drawn == [(error.__name__, error.code) for error in TABLE]


def test_every_class_that_can_be_raised_is_in_the_table() -> None:
    defined = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, WorkerError)
    }
    assert defined - {WorkerError, JobError, StartError} == set(TABLE)


def test_codes_are_unique_and_spelt_alike() -> None:
    codes = [error.code for error in TABLE]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[A-Z]+(_[A-Z]+)*", code) for code in codes)


@pytest.mark.parametrize("error", TABLE)
def test_every_row_of_the_table_is_complete(error: type[WorkerError]) -> None:
    for text in (error.__doc__, error.hint):
        assert text
        assert text[0].isupper() or text.startswith("`")
        assert text.rstrip().endswith(".")
        assert "\n" not in text.strip()
    assert isinstance(error.retryable, bool)
    assert error.__doc__ != WorkerError.__doc__
    assert issubclass(error, JobError) != issubclass(error, StartError)


def test_a_class_under_another_has_a_row_of_its_own() -> None:
    # A crash is retryable as every failure of ComfyUI, lack of memory is not.
    by_code = {error.code: error for error in TABLE}
    assert by_code["COMFYUI_CRASHED"].retryable
    assert not by_code["OUT_OF_MEMORY"].retryable
    assert all("hint" in vars(error) for error in TABLE)


def test_what_the_caller_can_correct_is_not_retryable() -> None:
    retryable = {error.code for error in TABLE if error.retryable}
    assert not retryable & {
        "INVALID_REQUEST",
        "INVALID_WORKFLOW",
        "INPUT_TOO_LARGE",
        "PROMPT_REJECTED",
        "EXECUTION_FAILED",
        "TIMED_OUT",
        "RESULT_TOO_LARGE",
        "CONFIGURATION_ERROR",
    }


@pytest.mark.parametrize("error", JOB_ERRORS)
def test_an_error_becomes_a_result_that_the_sdk_can_post(error: type[JobError]) -> None:
    result = error("what happened", [{"path": "workflow", "message": "wrong"}]).as_result()
    assert result == {
        "error": f"{error.code}: what happened",
        "error_code": error.code,
        "retryable": error.retryable,
        "details": [{"path": "workflow", "message": "wrong"}],
    }
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_an_error_without_details_has_none_in_its_result() -> None:
    assert "details" not in errors.TimedOut("late").as_result()


def test_an_error_says_its_code_and_its_message() -> None:
    assert str(errors.ConfigurationError("X is wrong")) == "CONFIGURATION_ERROR: X is wrong"


def test_an_error_of_one_field_names_it_twice() -> None:
    error = InvalidRequest.at("images[0].name", "is missing")
    assert error.message == "images[0].name: is missing"
    assert error.details == [{"path": "images[0].name", "message": "is missing"}]


LONG = "\N{GRINNING FACE}" * 5_500_000


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest(LONG),
        InvalidRequest.at(LONG, LONG),
        InvalidRequest("x", [{"message": LONG, "received": [LONG] * 300}] * 300),
        InvalidRequest("x", [{"message": "x" * 900}] * 10_000),
        InvalidRequest("x", [{"message": "m", "received": {LONG[:n]: 10**2000 for n in range(9)}}]),
        InvalidRequest("x", [{"message": "m", "received": [[[[[[[["deep"]]]]]]]]}]),
        InvalidRequest(
            "\x00" * 10_000, [{"message": "\ud800" * 10_000, "path": "\x1b" * 9_999}] * 50
        ),
    ],
)
def test_an_error_has_a_size_whatever_it_quotes(error: InvalidRequest) -> None:
    started = time.monotonic()
    result = error.as_result()
    assert time.monotonic() - started < 5
    for ensure_ascii in (True, False):
        text = json.dumps(clean(result), ensure_ascii=ensure_ascii, allow_nan=False)
        assert len(text.encode()) <= MAX_RESULT_BYTES
    assert result["error"].startswith("INVALID_REQUEST: ")


def test_an_error_at_the_limit_loses_only_what_is_above_it() -> None:
    details: list[Detail] = [{"path": f"images[{i}]", "message": "x" * 500} for i in range(200)]
    result = InvalidRequest("x", details).as_result()
    kept = result["details"]
    assert kept[:-1] == details[: len(kept) - 1]
    assert kept[-1] == {"message": f"{201 - len(kept)} more problems are left out"}
    assert 50 < len(kept) < 150
    assert 35_000 < len(json.dumps(result)) <= MAX_RESULT_BYTES


def test_an_error_of_a_usual_size_is_left_as_it_is() -> None:
    details: list[Detail] = [{"path": "a", "message": "x" * 900, "allowed": ["euler"] * 40}] * 20
    assert InvalidRequest("x" * 3_000, details).as_result()["details"] == details


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_both_ways_of_being_full_are_told(number: int) -> None:
    with pytest.raises(DiskFull), disk_errors():
        raise OSError(number, os.strerror(number))


def test_other_errors_of_the_disk_come_through() -> None:
    with pytest.raises(PermissionError), disk_errors():
        raise PermissionError(errno.EACCES, "no")
