"""Nothing that a caller or a caller's server can send is an error of the worker's own."""

from __future__ import annotations

import socket
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.raw_server import conversing, saying
from worker_comfyui.config import Settings
from worker_comfyui.errors import InputUnavailable, JobError
from worker_comfyui.job import InputFile
from worker_comfyui.request import download
from worker_comfyui.request.inputs import fetch
from worker_comfyui.request.job_secrets import secrets_of
from worker_comfyui.request.parse import parse
from worker_comfyui.stop import Stop

SETTINGS = replace(Settings(), input_url_timeout_s=2.0)
NEVER = Stop(lambda: False)
_ask = socket.getaddrinfo

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)
ADDRESS = st.from_regex(
    r"[Hh][Tt][Tt][Pp]s?://[a-z0-9:@\[\]%._\-]{0,12}127\.0\.0\.1[:/?#%\ud800é0-9a-z ]{0,12}",
    fullmatch=True,
)
DATA_URI = st.builds("{}:{}{},{}".format, st.just("data"), ANY_TEXT, st.just(";base64"), ANY_TEXT)
SOURCE = ANY_TEXT | ADDRESS | DATA_URI | st.from_regex(r"[A-Za-z0-9+/=%_\- \n]{0,40}")


def _numbers_only(host: Any, *arguments: Any, **options: Any) -> Any:
    """Ask no name service: it would take its time for each of the odd names."""
    return _ask(host, *arguments, **{**options, "flags": socket.AI_NUMERICHOST})


def outcome(source: str, group: Any, name: str) -> None:
    field: Any = "image" if group == "images" else "data"
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as folder,
        suppress(JobError),
    ):
        patch.setattr(socket, "getaddrinfo", _numbers_only)
        patch.setattr(download, "RETRY_PAUSES_S", ())
        fetch([InputFile("x[0]", group, field, name, source)], Path(folder), SETTINGS, NEVER)


@settings(max_examples=150, deadline=None)
@given(SOURCE, st.sampled_from(["images", "files"]), st.sampled_from(["a.png", "a.mp4", "a"]))
@example("http://127.0.0.1:9/\ud800", "files", "a")
@example("http://\ud800.test/", "files", "a")
@example("http://\ud800:ü@127.0.0.1/", "files", "a")
@example("http://日本:x@127.0.0.1/", "files", "a")
@example("https://127.0.0.1:99999/", "files", "a")
@example("http://127.0.0.1%00.test/", "files", "a")
@example("http://xn--/", "files", "a")
@example("http://" + "a." * 200 + "test/", "files", "a")
@example("data:;base64,%", "files", "a")
def test_no_content_of_a_file_is_an_error_of_the_worker(source: str, group: str, name: str) -> None:
    outcome(source, group, name)


HEADERS = st.sampled_from(
    [
        b"Content-Length: -5",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: x",
        b"Content-Length: 3, 5",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Content-Encoding: gzip",
        b"Location: ",
        b"Location: http://[::1",
        b"Location: http://\xff\xfe/",
        b"Location: //",
        b"Location: ../../..//%00",
        b"Connection: close",
    ]
)


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, 700),
    st.lists(HEADERS | st.binary(max_size=30), max_size=4),
    st.binary(max_size=80),
)
@example(200, [b"Transfer-Encoding: chunked"], b"-1\r\nabc\r\n")
@example(200, [b"Transfer-Encoding: chunked"], b"7fffffffffffffffffff\r\nabc")
@example(200, [b"Transfer-Encoding: chunked"], b"\xff\r\n")
@example(302, [b"Location: http://[::1"], b"")
@example(301, [b"Location: \xed\xa0\x80"], b"")
def test_no_answer_to_a_download_is_an_error_of_the_worker(
    status: int, headers: list[bytes], body: bytes
) -> None:
    head = b"\r\n".join([b"HTTP/1.1 %d X" % status, *headers])
    local = replace(SETTINGS, allow_private_input_urls=True)
    with (
        pytest.MonkeyPatch.context() as patch,
        conversing(saying(head + b"\r\n\r\n" + body)) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        patch.setattr(download, "RETRY_PAUSES_S", ())
        file = InputFile("files[0]", "files", "data", "a", server.url)
        with suppress(JobError):
            fetch([file], Path(folder), local, NEVER)


def test_a_chunk_of_a_negative_size_is_explained() -> None:
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabc"
    local = replace(SETTINGS, allow_private_input_urls=True)
    with (
        pytest.MonkeyPatch.context() as patch,
        conversing(saying(said)) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        patch.setattr(download, "RETRY_PAUSES_S", ())
        file = InputFile("files[0]", "files", "data", "a", server.url)
        with pytest.raises(InputUnavailable, match="ended early: not all of it came"):
            fetch([file], Path(folder), local, NEVER)


SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT
NAMES = st.sampled_from(
    [
        *("workflow", "images", "files", "output", "timeout_s", "comfy_org_api_key", "timeout"),
        *("name", "image", "data", "url", "class_type", "inputs", "delivery", "format", "quality"),
        *("endpointUrl", "accessId", "accessSecret", "bucketName", "prompt", "nodes", "api_key"),
    ]
)
ANYTHING = st.recursive(
    SCALAR,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(NAMES | ANY_TEXT, inner, max_size=5)
    ),
    max_leaves=25,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(NAMES, ANYTHING, max_size=5), ANYTHING)
def test_no_request_is_an_error_of_the_worker(sent: dict[str, Any], s3_config: Any) -> None:
    raw = {"id": "1", "input": sent, "s3Config": s3_config}
    assert all(isinstance(secret, str) for secret in secrets_of(raw))
    with suppress(JobError):
        job = parse(raw)
        with tempfile.TemporaryDirectory() as folder:
            fetch(job.files, Path(folder), SETTINGS, NEVER)
