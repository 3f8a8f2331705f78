from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress

import pytest

from tests.support.raw_server import (
    Conversation,
    RawServer,
    conversing,
    saying,
    silent,
    take_request,
)
from tests.support.waiting import wait_until
from worker_comfyui.comfyui.connection import Connection, chunks
from worker_comfyui.hosts import connections, sockets
from worker_comfyui.stop import Stop

LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n"


def answer(number: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number


def keeping(reply: Callable[[int], bytes]) -> Conversation:
    """Answer one request after another on a connection."""

    def talk(client: socket.socket, server: RawServer) -> None:
        client.sendall(reply(len(server.requests)))
        while take_request(client, server):
            client.sendall(reply(len(server.requests)))

    return talk


def get(connection: Connection, path: str = "/") -> bytes:
    with connection.request("GET", path, timeout_s=5) as response:
        return b"".join(chunks(response))


def test_requests_share_one_connection() -> None:
    with conversing(keeping(answer)) as server, closing(Connection(server.address)) as connection:
        assert [get(connection) for _ in range(3)] == [b"1", b"2", b"3"]
    assert server.connections == 1


def test_what_is_sent_is_not_waited_for_but_done_before_the_next_request() -> None:
    may_answer = threading.Event()

    def reply(number: int) -> bytes:
        if number == 1:
            may_answer.wait(10)
        return answer(number)

    with conversing(keeping(reply)) as server, closing(Connection(server.address)) as connection:
        connection.send("POST", "/history", timeout_s=5)
        asking = threading.Thread(target=get, args=(connection, "/prompt"))
        asking.start()
        asking.join(0.1)
        assert len(server.requests) <= 1, "the next one was sent before the answer came"
        may_answer.set()
        asking.join(10)
        assert [head.split()[1] for head in server.requests] == [b"/history", b"/prompt"]


@pytest.mark.parametrize(("body", "pieces"), [(b"small", 1), (bytes(1_000_000), 2)])
def test_a_small_request_is_sent_in_one_piece(
    monkeypatch: pytest.MonkeyPatch, body: bytes, pieces: int
) -> None:
    sent: list[bytes] = []
    send_all = sockets.PatientSocket.sendall

    def sendall(sock: sockets.PatientSocket, data: bytes, flags: int = 0) -> None:
        sent.append(data)
        send_all(sock, data, flags)

    monkeypatch.setattr(sockets.PatientSocket, "sendall", sendall)
    with (
        conversing(keeping(answer)) as server,
        closing(Connection(server.address)) as connection,
        connection.request("POST", "/prompt", timeout_s=5, body=body) as response,
    ):
        assert response.read() == b"1"
    assert len(sent) == pieces
    assert b"".join(sent).endswith(b"\r\n\r\n" + body)


def test_what_was_asked_ahead_is_not_asked_again() -> None:
    with conversing(keeping(answer)) as server, closing(Connection(server.address)) as connection:
        connection.send("GET", "/history", timeout_s=5)
        assert get(connection, "/history") == b"1"
        assert get(connection, "/history") == b"2"


def test_what_was_asked_ahead_is_asked_again_if_another_question_came_between() -> None:
    with conversing(keeping(answer)) as server, closing(Connection(server.address)) as connection:
        connection.send("GET", "/history", timeout_s=5)
        assert get(connection, "/queue") == b"2"
        assert get(connection, "/history") == b"3"


@pytest.mark.parametrize(
    "lost", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1", b"no\r\n\r\n"]
)
def test_what_becomes_of_the_answer_to_what_is_sent_does_not_matter(lost: bytes) -> None:
    def talk(client: socket.socket, server: RawServer) -> None:
        client.sendall(lost if server.connections == 1 else answer(2))

    with conversing(talk) as server, closing(Connection(server.address)) as connection:
        connection.send("POST", "/history", timeout_s=5)
        assert get(connection) == b"2"


def test_a_connection_that_the_server_has_closed_is_opened_anew() -> None:
    closed = threading.Event()

    def talk(client: socket.socket, server: RawServer) -> None:
        client.sendall(answer(server.connections))
        client.close()
        closed.set()

    with conversing(talk) as server, closing(Connection(server.address)) as connection:
        assert get(connection) == b"1"
        closed.wait(10)
        assert get(connection) == b"2"


def test_an_answer_that_is_not_read_is_given_up_with_its_connection() -> None:
    def reply(number: int) -> bytes:
        return LONG if number == 1 else answer(number)

    with conversing(keeping(reply)) as server, closing(Connection(server.address)) as connection:
        with connection.request("GET", "/", timeout_s=5) as response:
            assert response.status == 200
        assert get(connection) == b"2"
        wait_until(lambda: server.connections == 2)


def test_an_answer_that_comes_before_all_was_sent_is_read() -> None:
    def talk(client: socket.socket, _: RawServer) -> None:
        client.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        time.sleep(0.1)  # it closes with unread bytes, which resets the connection

    body = {"body": bytes(50_000_000)}
    with (
        conversing(talk) as server,
        closing(Connection(server.address)) as connection,
        connection.request("POST", "/prompt", timeout_s=5, **body) as response,
    ):
        assert response.status == 413


def test_an_answer_that_is_given_up_closes_a_socket_that_is_its_own() -> None:
    text = LONG.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with conversing(saying(text)) as server, closing(Connection(server.address)) as connection:
        with connection.request("GET", "/", timeout_s=5) as response:
            assert response.status == 200
        assert response.isclosed()


@pytest.mark.parametrize("rest", [b"no size\r\n", b"", b"-5\r\n"])
def test_a_connection_that_is_out_of_step_is_not_used_again(rest: bytes) -> None:
    broken = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n" + rest

    def talk(client: socket.socket, server: RawServer) -> None:
        client.sendall(broken if server.connections == 1 else answer(2))
        if rest:
            server.closing.wait(0.5)

    with conversing(talk) as server, closing(Connection(server.address)) as connection:
        with pytest.raises(connections.FAILURES):
            get(connection)
        assert get(connection) == b"2"
    assert server.connections == 2


def test_who_waits_for_what_was_sent_can_be_stopped_and_the_next_request_works() -> None:
    class Stopped(Exception):
        """What a test's stop raises."""

    def talk(client: socket.socket, server: RawServer) -> None:
        if server.connections == 1:
            server.closing.wait(5)
        client.sendall(answer(2))

    with conversing(talk) as server, closing(Connection(server.address)) as connection:
        connection.send("POST", "/history", timeout_s=5)
        with (
            sockets.bounded(Stop(lambda: False).within(0.2, Stopped)),
            pytest.raises(Stopped),
        ):
            get(connection)
        assert get(connection) == b"2"
        server.closing.set()


def test_a_server_that_resets_what_connects_is_a_failure_as_any_other() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        listener.settimeout(0.1)
        done = threading.Event()

        def reset() -> None:
            while not done.is_set():
                with suppress(TimeoutError):
                    client, _ = listener.accept()
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.close()

        thread = threading.Thread(target=reset)
        thread.start()
        try:
            for _ in range(500):
                with pytest.raises(connections.FAILURES):
                    get(Connection(f"127.0.0.1:{listener.getsockname()[1]}"))
        finally:
            done.set()
            thread.join()


def test_a_reset_while_it_connects_is_no_early_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def reset(*_: object, **__: object) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(connections, "connect", reset)
    with pytest.raises(ConnectionResetError):
        get(Connection("127.0.0.1:1"))


def test_an_address_of_ipv6_may_be_in_brackets() -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("needs IPv6")
    address = f"[::1]:{listener.getsockname()[1]}"
    with listener, closing(Connection(address)) as connection:
        connection.send("GET", "/", timeout_s=5)
        client, _ = listener.accept()
        with client:
            assert f"Host: {address}\r\n".encode() in client.recv(65536)


def test_closing_waits_only_so_long_for_what_was_sent() -> None:
    with conversing(silent) as server, closing(Connection(server.address)) as connection:
        connection.send("POST", "/history", timeout_s=60)
        started = time.monotonic()
        connection.settle(0.2)
        assert time.monotonic() - started < 10


def test_an_encoded_answer_is_refused_as_none_was_asked_for() -> None:
    def reply(number: int) -> bytes:
        encoding = b"identity" if number == 1 else b"gzip"
        return answer(number).replace(b"\r\n\r\n", b"\r\nContent-Encoding: %s\r\n\r\n" % encoding)

    with conversing(keeping(reply)) as server, closing(Connection(server.address)) as connection:
        assert get(connection) == b"1"
        with pytest.raises(OSError, match="encoded: gzip"):
            get(connection)
    assert b"Accept-Encoding: identity" in server.requests[0]
