"""Download a URL that a caller gave, without letting it reach anything private.

The name is resolved once, every address is checked, and the connection goes to a checked address
itself: a second DNS answer (DNS rebinding) is never asked for. Each redirect is a new start with
the same checks. Proxies of the environment are not used: a proxy resolves the name by itself,
which would undo the check.
"""

from __future__ import annotations

import base64
import functools
import http.client
import io
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from worker_comfyui.errors import InputTooLarge, InputUnavailable, InvalidRequest
from worker_comfyui.stop import JobCancelled

MAX_REDIRECTS = 5
CONNECT_TIMEOUT_S = 10.0
CHUNK_BYTES = 1 << 16
RETRY_PAUSES_S = (0.5, 1.0)
REDIRECTS = frozenset({301, 302, 303, 307, 308})
RETRYABLE = frozenset({429, 500, 502, 503, 504})
_POLL_S = 0.05

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_CONNECTIONS: dict[str, type[http.client.HTTPConnection]] = {
    "http": http.client.HTTPConnection,
    "https": http.client.HTTPSConnection,
}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NEVER = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24",  # protocol assignments; a cloud's metadata service among them
            "100.64.0.0/10",  # carrier-grade NAT, where clouds put internal services too
            "168.63.129.16/32",  # Azure's platform service: public by its number only
            "64:ff9b:1::/48",  # NAT64 of the local network
            "2001::/32",  # Teredo: the IPv4 address that is really meant is obscured
            "fec0::/10",  # the former site-local addresses
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one download may take: bytes, seconds from first to last, and which addresses."""

    max_bytes: int
    timeout_s: float
    allow_private: bool = False


class _Transient(InputUnavailable):
    """A failure that a second attempt may cure."""


def download(url: str, limits: Limits, cancelled: Callable[[], bool]) -> bytes:
    """Download a file within the limits.

    Name resolution and every byte count towards `timeout_s`, so a server that sends slowly does
    not get more time. Messages show the URL without its query and user, where tokens are.

    Raises:
        InvalidRequest: not an http(s) URL, or an address that is not public.
        InputUnavailable: no answer in time, or an error answer.
        InputTooLarge: more than `max_bytes`.
        JobCancelled: `cancelled` became true.
    """
    transfer = _Transfer(url, limits)
    future: Future[bytes] = Future()
    threading.Thread(target=transfer.run_into, args=(future,), name="download", daemon=True).start()
    deadline = time.monotonic() + limits.timeout_s
    try:
        while not cancelled():
            with suppress(TimeoutError):
                return future.result(timeout=_POLL_S)
            if time.monotonic() > deadline:
                raise InputUnavailable(
                    f"{shown(url)} was not downloaded within {limits.timeout_s:g} s"
                )
        raise JobCancelled
    finally:
        transfer.abandon()


def shown(url: str) -> str:
    """Shape a URL for messages: without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "the URL"
    text = f"{parts.scheme}://{host}{parts.path}"
    return text if len(text) <= 200 else f"{text[:197]}..."


def is_public(address: Address) -> bool:
    """Tell whether an address belongs to the public internet.

    An IPv4 address inside an IPv6 one (mapped, NAT64, 6to4) is judged by itself.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _NEVER)
    )


def resolve(host: str, port: int, *, allow_private: bool) -> list[str]:
    """Look up a host's addresses, each of which must be public.

    A name with a public and a private address is refused as a whole: no honest host has both.

    Raises:
        InputUnavailable: unknown name.
        InvalidRequest: an address that is not public.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise _Transient(f"the host {host} is not known") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not allow_private and not all(is_public(ipaddress.ip_address(a)) for a in addresses):
        raise InvalidRequest(
            f"the host {host} has an address that is not public; only public URLs are allowed"
        )
    return addresses


@functools.cache
def _tls() -> ssl.SSLContext:
    """Trust what the system trusts (or SSL_CERT_FILE names), and the usual public authorities."""
    context = ssl.create_default_context()
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    return context


class _Transfer:
    """One download in a thread of its own; `abandon` ends it from another."""

    def __init__(self, url: str, limits: Limits) -> None:
        self._url = url
        self._limits = limits
        self._socket: socket.socket | None = None
        self._abandoned = threading.Event()

    def run_into(self, future: Future[bytes]) -> None:
        try:
            future.set_result(self._run())
        except Exception as error:  # noqa: BLE001 - the thread that waits raises it
            future.set_exception(error)

    def abandon(self) -> None:
        self._abandoned.set()
        if self._socket is not None:
            # Not SSLSocket.shutdown: it takes the TLS state away from a read that is under way.
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _run(self) -> bytes:
        for pause in RETRY_PAUSES_S:
            try:
                return self._follow()
            except _Transient:
                self._abandoned.wait(pause)
        return self._follow()

    def _follow(self) -> bytes:
        url = self._url
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._request(url)
            if isinstance(answer, bytes):
                return answer
            url = urljoin(url, answer)
        raise InputUnavailable(f"{shown(self._url)} redirects more than {MAX_REDIRECTS} times")

    def _request(self, url: str) -> bytes | str:
        """Request one URL; return its content, or the address to which it redirects."""
        parts, host, port = _checked(url)
        addresses = resolve(host, port, allow_private=self._limits.allow_private)
        try:
            with self._connect(addresses, port, host if parts.scheme == "https" else None) as sock:
                connection = _CONNECTIONS[parts.scheme](host, port)
                connection.sock = sock
                connection.request("GET", _target(parts), headers=_headers(parts))
                with connection.getresponse() as response:
                    return self._answer(url, response)
        except ssl.SSLCertVerificationError as error:
            reason = error.verify_message
            raise InputUnavailable(f"{shown(url)} has no valid certificate: {reason}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise _Transient(f"{shown(url)} could not be downloaded: {reason}") from None

    def _connect(self, addresses: list[str], port: int, tls_host: str | None) -> socket.socket:
        failure = OSError("no address")
        for address in addresses:
            try:
                timeout = min(CONNECT_TIMEOUT_S, self._limits.timeout_s)
                sock = socket.create_connection((address, port), timeout)
            except OSError as error:
                failure = error
                continue
            if tls_host is not None:
                sock = _tls().wrap_socket(
                    sock, server_hostname=tls_host, do_handshake_on_connect=False
                )
            self._socket = sock
            sock.settimeout(self._limits.timeout_s)
            if self._abandoned.is_set():
                sock.close()
                raise OSError("abandoned")
            if isinstance(sock, ssl.SSLSocket):
                try:
                    sock.do_handshake()
                except BaseException:
                    sock.close()
                    raise
            return sock
        raise failure

    def _answer(self, url: str, response: http.client.HTTPResponse) -> bytes | str:
        location = response.headers.get("Location")
        if response.status in REDIRECTS and location:
            return location
        if response.status != HTTPStatus.OK:
            kind = _Transient if response.status in RETRYABLE else InputUnavailable
            raise kind(f"{shown(url)} answered {_status(response.status)}")
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding not in {"", "identity"}:
            raise InputUnavailable(f"{shown(url)} sends compressed content, though not asked to")
        if (response.length or 0) > self._limits.max_bytes:
            raise self._too_large(url)
        return self._body(url, response)

    def _body(self, url: str, response: http.client.HTTPResponse) -> bytes:
        content = io.BytesIO()
        while chunk := response.read(CHUNK_BYTES):
            content.write(chunk)
            if content.tell() > self._limits.max_bytes:
                raise self._too_large(url)
            if self._abandoned.is_set():
                raise OSError("abandoned")
        if response.length:
            raise _Transient(f"{shown(url)} ended {response.length} bytes early")
        return content.getvalue()

    def _too_large(self, url: str) -> InputTooLarge:
        return InputTooLarge(
            f"{shown(url)} has more than {self._limits.max_bytes / 1e6:g} MB (MAX_INPUT_MB)"
        )


def _checked(url: str) -> tuple[SplitResult, str, int]:
    """Split a URL, with its host in ASCII and its port."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode("ascii")
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise InvalidRequest("is not a valid URL") from None
    if parts.scheme not in {"http", "https"}:
        raise InvalidRequest(f"only http and https URLs are allowed, not {parts.scheme[:20]!r}")
    if not host or not host.isprintable() or " " in host:
        raise InvalidRequest("is a URL without a valid host")
    return parts, host, port


def _target(parts: SplitResult) -> str:
    path = parts.path or "/"
    query = f"?{parts.query}" if parts.query else ""
    return quote(path + query, safe="!#$%&'()*+,/:;=?@[]~")


def _headers(parts: SplitResult) -> dict[str, str]:
    headers = {"User-Agent": "worker-comfyui", "Accept": "*/*"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"
    return headers


def _status(code: int) -> str:
    with suppress(ValueError):
        return f"{code} {HTTPStatus(code).phrase}"
    return str(code)
