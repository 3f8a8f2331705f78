"""Download a URL that a caller gave, without letting it reach anything private.

Each redirect is a new start with the same checks (`hosts.connections`).
"""

from __future__ import annotations

import base64
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import LocationValueError

from worker_comfyui.errors import InputUnavailable, InvalidRequest
from worker_comfyui.hosts import connections, sockets
from worker_comfyui.hosts.public import NotPublic
from worker_comfyui.request.sink import Sink
from worker_comfyui.stop import Stop
from worker_comfyui.wording import shown, status

MAX_REDIRECTS = 5
CONNECT_TIMEOUT_S = 10.0
CHUNK_BYTES = 1 << 16
RETRY_PAUSES_S = (0.5, 1.0)
REDIRECTS = frozenset({301, 302, 303, 307, 308})
RETRYABLE = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one download may take: seconds from first to last, and which addresses."""

    timeout_s: float
    allow_private: bool = False


class _Transient(InputUnavailable):
    """A failure that a second attempt may cure."""


def download(url: str, sink: Sink, limits: Limits, stop: Stop) -> None:
    """Download a file into a sink, within the limits.

    Name resolution and every byte count towards `timeout_s`, so a server that sends slowly does
    not get more time. Messages show the URL without its query and user, where tokens are.

    Raises:
        InvalidRequest: not an http(s) URL, or an address that is not public.
        InputUnavailable: no answer in time, or an error answer.
        InputTooLarge: more than the sink takes.
        DiskFull: there is no space for it.
        JobCancelled, TimedOut: as `stop` says.
    """
    late = InputUnavailable(f"{shown(url)} was not downloaded within {limits.timeout_s:g} s")
    part = stop.within(limits.timeout_s, lambda: late)
    with (
        sockets.bounded(part),
        connections.pool(
            allow_private=limits.allow_private,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=limits.timeout_s),
        ) as http,
    ):
        for pause in RETRY_PAUSES_S:
            with suppress(_Transient):
                return _follow(http, url, sink)
            part.wait(pause)
            sink.restart()
        return _follow(http, url, sink)


def _follow(http: urllib3.PoolManager, url: str, sink: Sink) -> None:
    start = url
    for _ in range(MAX_REDIRECTS + 1):
        location = _request(http, url, sink)
        if location is None:
            return
        try:
            url = urljoin(url, location)
        except ValueError:
            raise InputUnavailable(f"{shown(url)} redirects to what is no URL") from None
    raise InputUnavailable(f"{shown(start)} redirects more than {MAX_REDIRECTS} times")


def _request(http: urllib3.PoolManager, url: str, sink: Sink) -> str | None:
    """Request one URL and write its content, or return the address to which it redirects."""
    address, headers = _checked(url)
    try:
        response = http.request(
            "GET",
            address,
            headers=headers,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
        )
        try:
            return _answer(url, response, sink)
        finally:
            response.close()
    except LocationValueError:
        raise InvalidRequest("is not a valid URL") from None
    except NotPublic as error:
        raise InvalidRequest(str(error)) from None
    except connections.FAILURES as error:
        kind = _Transient if connections.is_transient(error) else InputUnavailable
        raise kind(f"{shown(url)} {connections.reason(error)}") from None


def _answer(url: str, response: urllib3.BaseHTTPResponse, sink: Sink) -> str | None:
    location = response.headers.get("Location")
    if response.status in REDIRECTS and location:
        return location
    if response.status != HTTPStatus.OK:
        kind = _Transient if response.status in RETRYABLE else InputUnavailable
        raise kind(f"{shown(url)} answered {status(response.status)}")
    # Unpacked, it could be a thousand times what was counted.
    if response.headers.get("Content-Encoding", "identity").lower() not in {"", "identity"}:
        raise InputUnavailable(f"{shown(url)} sends compressed content, though not asked to")
    with suppress(ValueError):
        sink.expect(int(response.headers.get("Content-Length", "0")))
    for piece in response.stream(CHUNK_BYTES, decode_content=False):
        sink.write(piece)
    return None


def _checked(url: str) -> tuple[str, dict[str, str]]:
    """Shape a URL for the wire, and make the headers for it."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode("ascii")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise InvalidRequest("is not a valid URL") from None
    if parts.scheme not in {"http", "https"}:
        raise InvalidRequest(f"only http and https URLs are allowed, not {parts.scheme[:20]!r}")
    # What one parser of URLs takes for part of the host, and another for its end.
    if not host or not host.isprintable() or set(host) & set(' %"<>\\^`{|}'):
        raise InvalidRequest("is a URL without a valid host")
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{port}{_target(parts)}", _headers(parts)


def _target(parts: SplitResult) -> str:
    path = parts.path or "/"
    query = f"?{parts.query}" if parts.query else ""
    # `%` stays: what is quoted already must arrive as it was signed.
    return quote(path + query, safe="!#$%&'()*+,/:;=?@[]~", errors="replace")


def _headers(parts: SplitResult) -> dict[str, str]:
    headers = {"User-Agent": "worker-comfyui", "Accept": "*/*"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        encoded = base64.b64encode(pair.encode("utf-8", "replace")).decode("ascii")
        headers["Authorization"] = f"Basic {encoded}"
    return headers
