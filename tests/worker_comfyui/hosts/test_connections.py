from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3

from tests.support.raw_server import Conversation, conversing, repeating, saying, silent
from tests.support.tls import trusting
from worker_comfyui.hosts import connections, sockets
from worker_comfyui.hosts.public import NotPublic
from worker_comfyui.stop import JobCancelled, Stop

OK = b"HTTP/1.1 200 OK\r\n"


class Late(Exception):
    """What a test's stop raises."""


def soon(seconds: float = 0.3) -> Stop:
    return Stop(lambda: False).within(seconds, Late)


def get(url: str, stop: Stop, **options: Any) -> bytes:
    """Get a URL as the worker does."""
    with sockets.bounded(stop, **options), connections.pool(allow_private=True) as http:
        answer = http.request("GET", url, redirect=False, retries=False, preload_content=False)
        try:
            return b"".join(answer.stream(65536, decode_content=False))
        finally:
            answer.close()


def open_sockets() -> int:
    return sum(
        str(path.readlink()).startswith("socket:")
        for path in Path("/proc/self/fd").iterdir()
        if path.is_symlink()
    )


ENDLESS: dict[str, Conversation] = {
    "silence": silent,
    "headers byte by byte": repeating(b"x", 0.02, first=OK + b"X: "),
    "headers without end": repeating(b"X: y\r\n" * 90 + b"HTTP/1.1 100 Continue\r\n\r\n", 0.01),
    "100 Continue for ever": repeating(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body byte by byte": repeating(b"x", 0.02, first=OK + b"\r\n"),
    "chunks byte by byte": repeating(
        b"1\r\nx\r\n", 0.02, first=OK + b"Transfer-Encoding: chunked\r\n\r\n"
    ),
    "a body without end": repeating(b"x" * 65536, first=OK + b"\r\n"),
}


@pytest.mark.parametrize("talk", ENDLESS.values(), ids=ENDLESS.keys())
def test_no_server_gets_more_time_than_the_stop_allows(talk: Conversation) -> None:
    before = open_sockets()
    with conversing(talk) as server:
        started = time.monotonic()
        with pytest.raises((Late, *connections.FAILURES)):
            get(server.url, soon())
        assert time.monotonic() - started < 8
    assert open_sockets() == before
    assert not [thread for thread in threading.enumerate() if thread.name == "resolve"]


def test_a_cancelled_job_ends_the_wait_for_an_answer() -> None:
    cancelled = threading.Event()
    with conversing(silent) as server:
        threading.Timer(0.2, cancelled.set).start()
        started = time.monotonic()
        with pytest.raises(JobCancelled):
            get(server.url, Stop(cancelled.is_set))
        assert time.monotonic() - started < 8


def test_a_server_that_does_not_finish_tls_gets_no_more_time() -> None:
    with conversing(silent) as server:
        started = time.monotonic()
        with pytest.raises(Late):
            get(server.url.replace("http:", "https:"), soon())
        assert time.monotonic() - started < 8


@pytest.fixture
def tls_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A connection that a server has accepted under TLS appears in the fixture's socket."""
    with (
        trusting(tmp_path, monkeypatch, "localhost") as tls,
        tls.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True) as listener,
    ):
        yield listener


def test_an_answer_under_tls_is_read_through_pauses(tls_server: socket.socket) -> None:
    def talk() -> None:
        client, _ = tls_server.accept()
        with client:
            client.recv(65536)
            for piece in (OK, b"Content-Length: 40000\r\n\r\n", b"x" * 20000, b"x" * 20000):
                time.sleep(3 * sockets.TICK_S)
                client.sendall(piece)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        url = f"https://localhost:{tls_server.getsockname()[1]}/"
        assert get(url, soon(20)) == b"x" * 40000
    finally:
        thread.join()


def test_a_server_under_tls_gets_no_more_time_either(tls_server: socket.socket) -> None:
    def talk() -> None:
        client, _ = tls_server.accept()
        with client, suppress(OSError):
            client.recv(65536)
            client.sendall(OK + b"\r\n")
            while True:
                client.sendall(b"x")
                time.sleep(0.02)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        with pytest.raises(Late):
            get(f"https://localhost:{tls_server.getsockname()[1]}/", soon(0.5))
    finally:
        thread.join()


def test_an_upload_under_tls_that_is_taken_slowly_arrives_whole(
    tls_server: socket.socket,
) -> None:
    received = bytearray()
    data = bytes(range(256)) * 8_000

    def talk() -> None:
        client, _ = tls_server.accept()
        with client:
            while not received.partition(b"\r\n\r\n")[2].endswith(data):
                time.sleep(0.01)
                received.extend(client.recv(65536))
            client.sendall(OK + b"Content-Length: 0\r\n\r\n")

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        url = f"https://localhost:{tls_server.getsockname()[1]}/"
        with sockets.bounded(soon(60)), connections.pool(allow_private=True) as http:
            assert http.request("PUT", url, body=data, retries=False).status == 200
    finally:
        thread.join()
    assert bytes(received).partition(b"\r\n\r\n")[2] == data


def test_what_an_operator_s_own_server_sends_ends_with_the_job_as_well() -> None:
    with (
        conversing(repeating(b"x", 0.02, first=OK + b"\r\n")) as server,
        sockets.bounded(soon()),
        closing(connections.ToServer("127.0.0.1", urlsplit(server.url).port, timeout=30)) as http,
    ):
        started = time.monotonic()
        http.request("GET", "/")
        with closing(http.getresponse()) as answer, pytest.raises(Late):
            answer.read()
        assert time.monotonic() - started < 8


def test_an_upload_that_nobody_reads_ends_as_well() -> None:
    with (
        conversing(silent) as server,
        sockets.bounded(soon()),
        connections.pool(allow_private=True) as http,
        pytest.raises(Late),
    ):
        http.request("PUT", server.url, body=bytes(50_000_000), retries=False)


def test_the_wait_for_the_name_service_ends_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: asked.wait(5) and [])
    with pytest.raises(Late):
        get("http://slow.test/", soon())
    asked.set()


def test_the_wait_for_a_connection_ends_as_well() -> None:
    # A listener whose queue is full answers no further connection.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        queue = [socket.socket() for _ in range(4)]
        for waiting in queue:
            waiting.setblocking(False)
            waiting.connect_ex(address)
        with pytest.raises(Late):
            get(f"http://{address[0]}:{address[1]}/", soon())
        for waiting in queue:
            waiting.close()


def test_a_timeout_of_the_request_is_kept() -> None:
    with (
        conversing(silent) as server,
        connections.pool(allow_private=True, timeout=urllib3.Timeout(read=0.25)) as http,
    ):
        started = time.monotonic()
        with pytest.raises(urllib3.exceptions.ReadTimeoutError):
            http.request("GET", server.url, retries=False)
        assert 0.2 < time.monotonic() - started < 8


TOO_MUCH: dict[str, Callable[[], Conversation]] = {
    "an answer of 800 MB": lambda: repeating(b"x" * 65536, first=OK + b"\r\n"),
    "a chunk of a negative size": lambda: repeating(
        b"x" * 65536, first=OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"
    ),
    "a status line without end": lambda: repeating(b"x" * 65536, first=b"HTTP/1.1 200 "),
    "a chunk's size without end": lambda: repeating(
        b"0" * 65536, first=OK + b"Transfer-Encoding: chunked\r\n\r\n"
    ),
}


@pytest.mark.parametrize("talk", TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_no_server_gets_more_in_than_is_allowed(talk: Callable[[], Conversation]) -> None:
    with conversing(talk()) as server, pytest.raises(connections.FAILURES):
        get(server.url, soon(5), max_received=1_000_000)


def test_a_chunk_of_a_negative_size_is_not_read_as_all_that_comes() -> None:
    talk = repeating(b"x" * 65536, first=OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n")
    with conversing(talk) as server:
        started = time.monotonic()
        with pytest.raises(connections.FAILURES):
            get(server.url, soon(30))
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("header", [b"Content-Length: 3, 5", b"Connection: close\r\nX"])
def test_an_answer_that_makes_no_sense_leaves_no_socket_open(header: bytes) -> None:
    before = open_sockets()
    said = OK + header + b"\r\nConnection: close\r\n\r\nabc"
    with conversing(saying(said)) as server, suppress(*connections.FAILURES):
        get(server.url, soon(5))
    assert open_sockets() == before


def test_the_bound_on_what_comes_in_is_for_one_block_alone() -> None:
    with conversing(saying(OK + b"Content-Length: 600\r\n\r\n" + b"x" * 600)) as server:
        for _ in range(3):
            assert len(get(server.url, soon(5), max_received=1000)) == 600


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::1]", "[3fff::1]"])
def test_a_private_address_is_not_connected_to(host: str) -> None:
    with connections.pool(allow_private=False) as http, pytest.raises(NotPublic):
        http.request("GET", f"http://{host}:9/", retries=False)


def test_a_redirect_that_the_pool_follows_is_checked_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker_comfyui.hosts.public.is_public", lambda a: str(a) == "127.0.0.1")
    location = b"Location: http://127.0.0.2:9/\r\nContent-Length: 0\r\n\r\n"
    with (
        conversing(saying(b"HTTP/1.1 302 Found\r\n" + location)) as server,
        connections.pool(allow_private=False) as http,
        pytest.raises(NotPublic, match=r"127\.0\.0\.2"),
    ):
        http.request("GET", server.url)


def test_a_plain_socket_reaches_checked_addresses_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(NotPublic):
            connections.connect("127.0.0.1", port, 5)
        with connections.connect("127.0.0.1", port, 5, allow_private=True) as sock:
            assert sock.gettimeout() == 5


@pytest.fixture
def refusing_url() -> Iterator[str]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}/"


def test_a_host_that_nobody_knows_is_named() -> None:
    with pytest.raises(connections.FAILURES) as caught:
        get("http://nobody.invalid/", soon(5))
    reason = connections.reason(caught.value)
    assert reason.startswith("could not be reached: the host nobody.invalid is not known: ")
    assert "Errno" not in reason


def test_a_host_that_refuses_says_so(refusing_url: str) -> None:
    with pytest.raises(connections.FAILURES) as caught:
        get(refusing_url, soon(5))
    assert connections.reason(caught.value) == "could not be reached: Connection refused"


def raised_while_handling(error: Exception, then: Callable[[], object]) -> None:
    try:
        raise error
    except type(error):
        then()


def test_what_was_being_handled_when_the_request_began_is_not_its_reason(refusing_url: str) -> None:
    full = OSError(28, "No space left on device")
    with pytest.raises(connections.FAILURES) as caught:
        raised_while_handling(full, lambda: get(refusing_url, soon(5)))
    assert connections.reason(caught.value) == "could not be reached: Connection refused"


@pytest.mark.timeout(20)
def test_a_failure_that_was_raised_again_while_it_was_handled_has_a_reason(
    refusing_url: str,
) -> None:
    def raise_again() -> None:
        first: BaseException = failure.value
        while first.__cause__:
            first = first.__cause__
        raise first

    with pytest.raises(connections.FAILURES) as failure:
        get(refusing_url, soon(5))
    with pytest.raises(OSError, match="refused") as again:
        raised_while_handling(failure.value, raise_again)
    assert again.value.__context__ is failure.value
    assert connections.reason(failure.value) == "could not be reached: Connection refused"
