"""Buckets that do what no decent service does: each costs a bounded time, and is explained."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.raw_server import Conversation, RawServer, conversing, repeating, saying, silent
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, S3Server, serving_s3
from worker_comfyui.config import Secret, Settings
from worker_comfyui.delivery import s3
from worker_comfyui.delivery.bucket import Bucket, Upload, UploadFailed
from worker_comfyui.errors import InvalidRequest, TimedOut
from worker_comfyui.hosts.bucket_location import locate
from worker_comfyui.job import S3Config
from worker_comfyui.stop import JobCancelled, Stop

NEVER = Stop(lambda: False)
OK = b"HTTP/1.1 200 OK\r\n"


def bucket_at(url: str, **changes: Any) -> Bucket:
    location = locate(url, "results", None, called="BUCKET_NAME")
    bucket = Bucket(location, Secret(ACCESS_KEY), Secret(SECRET_KEY), read_timeout_s=20, attempts=1)
    return replace(bucket, **changes)


def failure(bucket: Bucket, path: Path, stop: Stop = NEVER) -> str:
    """Upload a file, which must fail; return the reason."""
    (result,) = bucket.upload([Upload(path, "x.png", "image/png")], stop)
    assert isinstance(result, UploadFailed)
    assert len(result.reason) < 700
    assert result.reason.isprintable()
    return result.reason


def answer(status: str, body: bytes = b"", headers: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"HTTP/1.1 " + status.encode() + b"\r\n" + headers + length + b"\r\n" + body


NEVER_DONE: dict[str, Conversation] = {
    "says nothing": silent,
    "repeats 100 Continue": repeating(b"HTTP/1.1 100 Continue\r\n\r\n", 0.001),
    "sends its headers byte by byte": repeating(b"x", 0.02, first=OK + b"X: "),
    "sends its answer byte by byte": repeating(b"x", 0.02, first=OK + b"\r\n"),
}


@pytest.mark.parametrize("talk", NEVER_DONE.values(), ids=NEVER_DONE.keys())
def test_a_bucket_that_is_never_done_ends_with_the_job(talk: Conversation, picture: Path) -> None:
    stop = Stop(lambda: False)
    stop.phase("delivery")
    stop.limit(2.5)
    with conversing(talk) as server:
        started = time.monotonic()
        with pytest.raises(TimedOut, match="while it delivered its files"):
            bucket_at(server.url).upload([Upload(picture, "x.png", "image/png")], stop)
        assert time.monotonic() - started < 10
    assert not [t.name for t in threading.enumerate() if t.name.startswith("upload")]


@pytest.mark.parametrize("talk", NEVER_DONE.values(), ids=NEVER_DONE.keys())
def test_a_bucket_that_is_never_done_costs_a_bounded_time(
    talk: Conversation, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PATIENCE_S", 1.0)
    monkeypatch.setattr(s3, "SLOWEST", 1_000_000)
    with conversing(talk) as server:
        started = time.monotonic()
        reason = failure(bucket_at(server.url, attempts=4, read_timeout_s=0.5), picture)
        assert time.monotonic() - started < 10
    assert "did not" in reason or "answered more" in reason


def test_the_bounds_of_a_bucket_that_never_answers_are_what_the_documents_say() -> None:
    bucket = bucket_at("https://s3.example.com")
    assert s3.PATIENCE_S + Bucket.read_timeout_s <= 90
    assert (Bucket.attempts, bucket.allow_private) == (4, True)


def test_a_bucket_that_closes_every_connection_is_given_time_between_attempts(
    picture: Path,
) -> None:
    times: list[float] = []

    def talk(_: socket.socket, __: RawServer) -> None:
        times.append(time.monotonic())

    with conversing(talk) as server:
        reason = failure(bucket_at(server.url, attempts=3), picture)
    assert len(times) == 3
    assert times[1] - times[0] >= 0.5
    assert times[2] - times[1] >= 2
    assert "closed the connection" in reason


@pytest.mark.parametrize("status", ["301 Moved Permanently", "307 Temporary Redirect"])
@pytest.mark.parametrize("body", [b"", b"<Error><Code>PermanentRedirect</Code></Error>"])
def test_a_redirect_is_not_followed_and_explained(status: str, body: bytes, picture: Path) -> None:
    headers = b"Location: http://127.0.0.1:1/results/x.png\r\n"
    with conversing(saying(answer(status, body, headers))) as server:
        reason = failure(bucket_at(server.url, attempts=4), picture)
        assert server.connections == 1
    assert "answered 30" in reason or "answered PermanentRedirect" in reason
    assert "check the address and the region (BUCKET_REGION)" in reason


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "answered 404: Not Found; check the bucket's name"),
        (b"<html><body>nginx</body></html>", "answered HTTP 404, without a reason; check the"),
        (b"no such page", "answered 404: Not Found; check the bucket's name"),
        (b'{"message": "no"}', "answered 404: Not Found; check the bucket's name"),
        (b"<Error><Code>NoSuchBucket</Code></Error>", "answered NoSuchBucket; check the bucket's"),
        (b"<Error><Code>X</Code><Message>a\nb\x1b[31mc</Message></Error>", "answered"),
        (b"<Error><Code>%s</Code></Error>" % (b"y" * 100_000), "answered yyyy"),
    ],
)
def test_a_404_is_explained_whatever_stands_in_it(body: bytes, words: str, picture: Path) -> None:
    with conversing(saying(answer("404 Not Found", body))) as server:
        assert words in failure(bucket_at(server.url, attempts=4), picture)
        assert server.connections == 1


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Slow Down", "429 Too Many"])
def test_a_fault_of_the_moment_is_tried_again(status: str, picture: Path) -> None:
    def talk(client: socket.socket, server: RawServer) -> None:
        first = server.connections == 1
        client.sendall(answer(status if first else "200 OK", headers=b"Connection: close\r\n"))

    with conversing(talk) as server:
        (url,) = bucket_at(server.url, attempts=2).upload(
            [Upload(picture, "x.png", "image/png")], NEVER
        )
        assert isinstance(url, str)
        assert server.connections == 2


def test_an_error_body_without_end_is_not_read_to_its_end(picture: Path) -> None:
    talk = repeating(b"x" * 65536, first=b"HTTP/1.1 403 Forbidden\r\n\r\n")
    with conversing(talk) as server:
        reason = failure(bucket_at(server.url, attempts=4), picture)
        assert server.connections == 1
    assert "answered more than is taken" in reason


def test_a_bucket_that_ends_within_100_continue_is_no_endless_loop(tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(3_000_000))
    with conversing(saying(b"HTTP/1.1 100 Continue\r\n")) as server:
        assert "closed the connection" in failure(bucket_at(server.url), large)


def test_a_name_that_becomes_private_is_not_connected_to(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [["127.0.0.1"], ["127.0.0.2"]]
    ask = socket.getaddrinfo

    def resolve(host: str, port: int, *arguments: Any, **options: Any) -> Any:
        if host != "rebind.test":
            return ask(host, port, *arguments, **options)
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [entry for a in addresses for entry in ask(a, port, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(
        "worker_comfyui.hosts.public.is_public", lambda address: str(address) == "127.0.0.1"
    )
    with socket.create_server(("127.0.0.2", 0)) as inside:
        port = inside.getsockname()[1]
        config = S3Config(
            f"http://rebind.test:{port}", Secret("id-of-key"), Secret("secret"), "bucket"
        )
        bucket = Bucket.from_s3_config(config, Settings(), NEVER)
        reason = failure(replace(bucket, attempts=1), picture)
        assert "rebind.test has an address that is not public" in reason
        inside.settimeout(0.1)
        with pytest.raises(TimeoutError):
            inside.accept()


def test_proxies_of_the_environment_are_for_the_operator_s_bucket_only(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with conversing(saying(answer("403 Forbidden"))) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        failure(bucket_at("http://s3.example.test"), picture)
        assert proxy.requests[0].startswith(b"PUT http://s3.example.test/results/x.png HTTP/1.1")
        reason = failure(bucket_at("http://127.0.0.1:1", allow_private=False), picture)
        assert "not public" in reason
        assert proxy.connections == 1


def test_the_parts_of_a_cancelled_upload_are_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "MULTIPART_BYTES", 6 * 1024 * 1024)
    monkeypatch.setattr(s3, "PART_BYTES", 5 * 1024 * 1024)
    path = tmp_path / "video.mp4"
    path.write_bytes(bytes(14 * 1024 * 1024))
    started = (
        b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"
    )
    cancelled = threading.Event()

    def talk(client: socket.socket, server: RawServer) -> None:
        method = server.requests[-1].split()[0]
        if method == b"POST":
            client.sendall(answer("200 OK", started, b"Connection: close\r\n"))
        elif method == b"PUT":
            cancelled.set()
            server.closing.wait(5)
        else:
            client.sendall(answer("204 No Content", headers=b"Connection: close\r\n"))

    with conversing(talk) as server:
        with pytest.raises(JobCancelled):
            bucket_at(server.url).upload(
                [Upload(path, "v.mp4", "video/mp4")], Stop(cancelled.is_set)
            )
        heads = [head.partition(b" HTTP")[0] for head in server.requests]
        server.closing.set()
    assert heads[-1] == b"DELETE /results/v.mp4?uploadId=u1"


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving_s3(tmp_path_factory.mktemp("s3")) as running:
        running.make_bucket("results")
        yield running


def test_a_connection_is_used_again_for_the_next_job(s3_server: S3Server, picture: Path) -> None:
    bucket = bucket_at(s3_server.url)
    for number in range(3):
        stop = Stop(lambda: False)
        (url,) = bucket.upload([Upload(picture, f"{number}.png", "image/png")], stop)
        assert isinstance(url, str)


@settings(max_examples=150, deadline=None)
@given(
    st.text(st.characters(codec=None, exclude_categories=()), max_size=40)
    | st.from_regex(r"https?://[a-z0-9._%\[\]:@-]{0,20}(/[^\s]{0,10})?", fullmatch=True),
    st.none() | st.text(st.characters(codec=None, exclude_categories=()), max_size=20),
)
def test_an_odd_address_of_a_caller_s_bucket_is_an_invalid_request(
    address: str, name: str | None
) -> None:
    config = S3Config(address, Secret("id-of-key"), Secret("secret"), name)
    late = InvalidRequest("the name service does not answer")
    with suppress(InvalidRequest):
        Bucket.from_s3_config(config, Settings(), NEVER.within(5, lambda: late))


@settings(max_examples=20, deadline=None)
@given(st.integers(200, 599), st.binary(max_size=200), st.binary(max_size=60))
def test_no_answer_of_a_bucket_is_an_internal_error(
    status: int, body: bytes, header: bytes
) -> None:
    said = b"HTTP/1.1 %d X\r\n" % status + header + b"\r\nConnection: close\r\n\r\n" + body
    uploads = [Upload(Path(__file__), "x.py", "text/plain")]
    with conversing(saying(said)) as server:
        (result,) = bucket_at(server.url, read_timeout_s=1).upload(uploads, NEVER)
    assert isinstance(result, str | UploadFailed)
