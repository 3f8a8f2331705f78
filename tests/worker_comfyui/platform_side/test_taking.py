from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_comfyui.platform_side.taking import Taken, jobs_in

# --- reading an answer


def test_one_job_or_a_list_of_jobs() -> None:
    one = {"id": "a", "input": {"x": 1}, "webhook": "w", "s3Config": {}}
    assert jobs_in(json.dumps(one).encode()) == [Taken("a", one)]
    assert jobs_in(json.dumps([one, {"id": "b"}]).encode()) == [
        Taken("a", one),
        Taken("b", {"id": "b"}),
    ]


@pytest.mark.parametrize("body", [b"[]", b"null"])
def test_no_job_is_nothing_to_speak_of(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert jobs_in(body) == []
    assert caplog.records == []


def test_a_number_as_an_id_is_the_text_of_it() -> None:
    assert jobs_in(b'{"id": 17, "input": {}}') == [Taken("17", {"id": "17", "input": {}})]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[null]", "NoneType"),
        (b'["id"]', "'id'"),
        (b"5", "5"),
        (b'[["id"]]', "list"),
        (b"{}", "an object with the id None"),
        (b'{"id": true, "input": {}}', "the id True"),
        (b'{"id": 1.5, "input": {}}', "the id 1.5"),
        (b'{"id": ["a"], "input": {}}', "the id ['a']"),
        (b'{"id": "", "input": {}}', "the id ''"),
        (b'{"id": "a\\nb", "input": {}}', r"the id 'a\nb'"),
        (b'{"id": "\\ud800", "input": {}}', r"the id '\ud800'"),
        (b'{"id": null, "input": {"api_key": "private words"}}', "the id None"),
    ],
)
def test_what_is_no_job_is_named_and_not_quoted(
    body: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert jobs_in(body) == []
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("the platform gave something that is no job: ")
    assert said in record.getMessage()
    assert "private words" not in caplog.text


DEEP = b'{"input": ' + b'{"id":[' * 100_000 + b"1" + b"]}" * 100_000
LONG_NUMBER = b"1" * 5000


@pytest.mark.parametrize(
    ("body", "ids", "why"),
    [
        (DEEP + b', "id": "a"}', ["a"], "nested too deeply"),
        (b"[" + DEEP + b', "id": "a"}, {"id": "b", "input": 1}]', ["a", "b"], "nested too deeply"),
        (b'{"id": "a", "input": {"id": "x", "n": ' + LONG_NUMBER + b"}}", ["a"], "not JSON"),
        (b'{"id": "a\\u0062", "input": "caf\xe9"}', ["ab"], "not JSON"),
        (b'{"id": "a", "input": "it ends', ["a"], "not JSON"),
        (b'{"input": "\\"id\\":\\"x\\"", "id" : "a", }', ["a"], "not JSON"),
        (b'{"x": "id", "id": ["b"], "id": "a", "y": {"id": "c"', ["a"], "not JSON"),
    ],
)
def test_a_job_that_cannot_be_read_has_an_id_to_answer_to(
    body: bytes, ids: list[str], why: str
) -> None:
    jobs = jobs_in(body)
    assert [job.id for job in jobs] == ids
    assert all(job.problem and why in job.problem for job in jobs)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b'"id": "a"', b'{"id": 5, ', b"}{"])
def test_an_answer_without_an_id_is_logged(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert jobs_in(body) == []
    assert "the platform's answer to job-take cannot be used" in caplog.text


@given(body=st.binary() | st.text('{}[]":,\\id \n1').map(str.encode))
def test_no_answer_raises(body: bytes) -> None:
    for job in jobs_in(body):
        assert job.id == job.raw["id"]
        assert job.id
