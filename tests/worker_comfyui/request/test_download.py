"""Downloads, against real servers on 127.0.0.1 and 127.0.0.2.

Since no public server is at hand, `playing_public` lets 127.0.0.1 count as public and nothing else;
only DNS answers are made up.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.tls import server_tls, trusting
from worker_comfyui.errors import InputTooLarge, InputUnavailable, InvalidRequest
from worker_comfyui.hosts import public
from worker_comfyui.hosts.public import Address, is_public
from worker_comfyui.request import download as module
from worker_comfyui.request.download import Limits
from worker_comfyui.request.sink import Budget, Sink
from worker_comfyui.stop import JobCancelled, Stop

LOCAL = Limits(timeout_s=10, allow_private=True)
PUBLIC = Limits(timeout_s=10)
MAX_BYTES = 1_000_000

Answer = Callable[[BaseHTTPRequestHandler], None]


def download(url: str, limits: Limits, cancelled: Callable[[], bool]) -> bytes:
    """Download into a file of its own; return what is in it, if all went well."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        with Sink(path, MAX_BYTES, Budget(MAX_BYTES)) as sink:
            module.download(url, sink, limits, Stop(cancelled))
        return path.read_bytes()


@contextmanager
def serving(
    answer: Answer, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Serve GET; yield the address `host:port` and the list of paths that were asked for."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Clients that hang up are part of these tests."""

    with Server((host, 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"{host}:{server.server_address[1]}", seen
        finally:
            server.shutdown()
            thread.join()


def body(content: bytes, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        for name, value in {"Content_Length": str(len(content)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(content)

    return answer


def redirect(location: str, status: int = 302) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Location", location)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def status(*codes: int) -> Answer:
    """Answer with these codes in turn; 200 has the body `ok`."""
    left = list(codes)

    def answer(request: BaseHTTPRequestHandler) -> None:
        code = left.pop(0) if len(left) > 1 else left[0]
        request.send_response(code)
        request.send_header("Content-Length", "2")
        request.end_headers()
        request.wfile.write(b"ok")

    return answer


def drip(before_headers: bool) -> Answer:
    """Send a byte now and then, for ever."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        if not before_headers:
            request.send_response(200)
            request.end_headers()
        else:
            request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            request.wfile.write(b"x")
            time.sleep(0.02)

    return answer


def never() -> bool:
    return False


@pytest.fixture
def playing_public(monkeypatch: pytest.MonkeyPatch) -> None:
    def plays(address: Address) -> bool:
        return str(address) == "127.0.0.1" or is_public(address)

    monkeypatch.setattr(public, "is_public", plays)


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """Answers of the resolver: for each name, one list of addresses per question."""
    answers: dict[str, list[list[str]]] = {}
    ask = socket.getaddrinfo

    def resolve(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if host not in answers:
            return ask(host, port, *args, **kwargs)
        return [
            entry
            for address in answers[host].pop(0)
            for entry in ask(address, port, *args, **kwargs)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return answers


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",  # noqa: S104 - an address to refuse, not to bind
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "3fff::1",
        "3fff:fff::1",
        "5f00::1",
    ],
)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(InvalidRequest, match="not public"):
        download(f"http://{host}/latest/meta-data", PUBLIC, never)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "2606:4700:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ],
)
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1", "0177.0.0.1"])
def test_other_spellings_of_loopback_are_refused(host: str) -> None:
    with serving(body(b"secret")) as (address, seen):
        port = address.rpartition(":")[2]
        with pytest.raises(InvalidRequest, match="not public"):
            download(f"http://{host}:{port}/", PUBLIC, never)
        assert not seen


def test_private_addresses_are_allowed_where_the_operator_says_so() -> None:
    with serving(body(b"content")) as (address, _):
        assert download(f"http://{address}/a%20b?x=1", LOCAL, never) == b"content"


@pytest.mark.usefixtures("playing_public")
def test_a_redirect_to_a_private_address_is_refused() -> None:
    with (
        serving(body(b"secret"), host="127.0.0.2") as (inside, seen),
        serving(redirect(f"http://{inside}/meta-data")) as (outside, _),
    ):
        with pytest.raises(InvalidRequest, match=r"127\.0\.0\.2 has an address that is not public"):
            download(f"http://{outside}/", PUBLIC, never)
        assert not seen


@pytest.mark.usefixtures("playing_public")
@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/"])
def test_a_redirect_to_another_scheme_is_refused(location: str) -> None:
    with (
        serving(redirect(location)) as (outside, _),
        pytest.raises(InvalidRequest, match="only http and https"),
    ):
        download(f"http://{outside}/", PUBLIC, never)


@pytest.mark.usefixtures("playing_public")
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed_also_relative_ones(code: int) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        here = body(b"arrived") if request.path == "/b/c?d=1" else redirect("../b/c?d=1", code)
        here(request)

    with serving(answer) as (address, seen):
        assert download(f"http://{address}/a/x", PUBLIC, never) == b"arrived"
        assert seen == ["/a/x", "/b/c?d=1"]


def test_endless_redirects_end() -> None:
    with serving(redirect("/again")) as (address, seen):
        with pytest.raises(InputUnavailable, match="redirects more than 5 times"):
            download(f"http://{address}/", LOCAL, never)
        assert len(seen) == 6


@pytest.mark.usefixtures("playing_public")
def test_the_checked_address_is_the_one_connected_to(dns: dict[str, list[list[str]]]) -> None:
    dns["rebind.test"] = [["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]]
    with serving(body(b"public")) as (outside, _):
        port = outside.rpartition(":")[2]
        assert download(f"http://rebind.test:{port}/", PUBLIC, never) == b"public"
    assert len(dns["rebind.test"]) == 2


@pytest.mark.usefixtures("playing_public")
def test_a_name_with_one_private_address_is_refused(dns: dict[str, list[list[str]]]) -> None:
    dns["mixed.test"] = [["127.0.0.1", "10.0.0.1"]]
    with serving(body(b"x")) as (outside, seen):
        port = outside.rpartition(":")[2]
        with pytest.raises(InvalidRequest, match="not public"):
            download(f"http://mixed.test:{port}/", PUBLIC, never)
        assert not seen


def test_the_next_address_is_tried_when_one_refuses(dns: dict[str, list[list[str]]]) -> None:
    dns["two.test"] = [["127.0.0.3", "127.0.0.1"]]
    with serving(body(b"second")) as (address, _):
        port = address.rpartition(":")[2]
        assert download(f"http://two.test:{port}/", LOCAL, never) == b"second"


def test_the_host_header_names_the_host_of_the_url(dns: dict[str, list[list[str]]]) -> None:
    dns["files.test"] = [["127.0.0.1"]]
    hosts: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        hosts.append(request.headers["Host"])
        body(b"x")(request)

    with serving(answer) as (address, _):
        port = address.rpartition(":")[2]
        download(f"http://files.test:{port}/", LOCAL, never)
    assert hosts == [f"files.test:{port}"]


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(body(b"proxied")) as (proxy, asked), serving(body(b"direct")) as (address, _):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://{proxy}")
        assert download(f"http://{address}/", LOCAL, never) == b"direct"
        assert not asked


def test_user_and_password_of_the_url_are_sent_but_never_shown() -> None:
    sent: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        sent.append(request.headers["Authorization"])
        status(403)(request)

    with serving(answer) as (address, _), pytest.raises(InputUnavailable) as caught:
        download(f"http://me:s%40cret@{address}/a.png?X-Amz-Signature=token", LOCAL, never)
    assert sent == ["Basic bWU6c0BjcmV0"]
    assert caught.value.message == f"http://{address}/a.png answered 403 Forbidden"


def test_an_answer_of_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_PAUSES_S", (0.01, 0.01))
    with serving(status(503, 502, 200)) as (address, seen):
        assert download(f"http://{address}/", LOCAL, never) == b"ok"
        assert len(seen) == 3


def test_a_file_that_is_not_there_is_asked_for_once() -> None:
    with serving(status(404)) as (address, seen):
        with pytest.raises(InputUnavailable, match="answered 404 Not Found"):
            download(f"http://{address}/", LOCAL, never)
        assert len(seen) == 1


def test_a_declared_size_above_the_limit_is_refused_unread() -> None:
    with (
        serving(body(b"", Content_Length="1000000000")) as (address, _),
        pytest.raises(InputTooLarge, match="more than 1 MB"),
    ):
        download(f"http://{address}/", LOCAL, never)


def test_a_body_without_a_size_is_cut_at_the_limit() -> None:
    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(b"\0" * 65536)

    with serving(endless) as (address, _), pytest.raises(InputTooLarge):
        download(f"http://{address}/", LOCAL, never)


def test_a_body_that_ends_early_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_PAUSES_S", ())
    with (
        serving(body(b"half", Content_Length="8")) as (address, _),
        pytest.raises(InputUnavailable, match="ended early"),
    ):
        download(f"http://{address}/", LOCAL, never)


def test_compressed_content_is_refused_rather_than_passed_on() -> None:
    with (
        serving(body(b"\x1f\x8b", Content_Encoding="gzip")) as (address, _),
        pytest.raises(InputUnavailable, match="compressed"),
    ):
        download(f"http://{address}/", LOCAL, never)


@pytest.mark.parametrize("before_headers", [True, False])
def test_a_server_that_drips_gets_no_more_time_than_the_total(before_headers: bool) -> None:
    with serving(drip(before_headers)) as (address, _):
        started = time.monotonic()
        with pytest.raises(InputUnavailable, match=r"not downloaded within 0\.3 s"):
            download(f"http://{address}/", Limits(0.3, allow_private=True), never)
        assert time.monotonic() - started < 8


def test_a_cancelled_download_ends_at_once() -> None:
    with serving(drip(before_headers=False)) as (address, seen), pytest.raises(JobCancelled):
        download(f"http://{address}/", LOCAL, lambda: bool(seen))


def test_a_host_that_refuses_the_connection_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_PAUSES_S", ())
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/x?token=1"
        with pytest.raises(InputUnavailable, match="Connection refused") as caught:
            download(url, LOCAL, never)
    assert "token" not in caught.value.message


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///path",
        "http://[::1/",
        "http://host:port/",
        "http://host:99999/",
        "http://a..b/",
        "http://a b/",
        "http://host\x01name/",
        f"http://{'a' * 70}.example/",
    ],
)
def test_a_url_that_is_none_is_an_invalid_request(url: str) -> None:
    with pytest.raises(InvalidRequest):
        download(url, LOCAL, never)


def test_tls_checks_the_name_although_the_address_is_connected_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dns: dict[str, list[list[str]]]
) -> None:
    dns["files.test"] = [["127.0.0.1"]]
    dns["other.test"] = [["127.0.0.1"]]
    with (
        trusting(tmp_path, monkeypatch, "files.test") as tls,
        serving(body(b"secure"), tls=tls) as (address, _),
    ):
        port = address.rpartition(":")[2]
        assert download(f"https://files.test:{port}/", LOCAL, never) == b"secure"
        with pytest.raises(InputUnavailable, match="no valid certificate"):
            download(f"https://other.test:{port}/", LOCAL, never)


def test_an_unknown_authority_is_refused(tmp_path: Path, dns: dict[str, list[list[str]]]) -> None:
    dns["files.test"] = [["127.0.0.1"]]
    with serving(body(b"x"), tls=server_tls(tmp_path, "files.test")) as (address, _):
        port = address.rpartition(":")[2]
        with pytest.raises(InputUnavailable, match="no valid certificate"):
            download(f"https://files.test:{port}/", LOCAL, never)
