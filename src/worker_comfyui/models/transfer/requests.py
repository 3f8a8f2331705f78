"""One question, through all redirects and as many attempts as it takes."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urljoin

from worker_comfyui.models.transfer import answers
from worker_comfyui.models.transfer.answers import Hop
from worker_comfyui.models.transfer.errors import Refused, Transient, Unreachable
from worker_comfyui.models.transfer.lines import Line, Watch
from worker_comfyui.models.transfer.rules import Rules
from worker_comfyui.models.transfer.sources import Source
from worker_comfyui.models.transfer.wording import shown

T = TypeVar("T")

MAX_REDIRECTS = 8
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_JSON_BYTES = 32 << 20
SHORT_BYTES = 1 << 16
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Between the attempts in a row of which none brought a byte."""


@dataclass(frozen=True, slots=True)
class Followed:
    """Where the redirects ended.

    Attributes:
        response: The last answer, a 200 or 206 whose body is still to be read.
        url: Who gave it.
        facts: What the hub said of the file on the way (`X-Linked-Etag`, ...).
    """

    response: http.client.HTTPResponse
    url: str
    facts: Mapping[str, str]


class Patience:
    """Waits between attempts, longer each time, until there have been too many in a row."""

    def __init__(self, watch: Watch, pauses_s: tuple[float, ...] = PAUSES_S) -> None:
        self._watch = watch
        self._pauses_s = pauses_s
        self._failures = 0

    def progressed(self) -> None:
        """Begin to count anew: something came."""
        self._failures = 0

    def failed(self, error: Transient) -> None:
        """Wait before the next attempt.

        Raises:
            Unreachable: there is none.
            Ended: the transfer was ended meanwhile.
        """
        if self._failures == len(self._pauses_s):
            raise Unreachable(
                f"{error}, {self._failures + 1} times in a row; what came so far is kept: "
                "try again later"
            ) from error
        pause = self._pauses_s[self._failures]
        self._failures += 1
        self._watch.pause(max(pause, error.wait_s or 0.0))

    def attempt(self, work: Callable[[], T]) -> T:
        """Repeat `work` until it fails with no Transient."""
        while True:
            try:
                return work()
            except Transient as error:
                self.failed(error)


def follow(
    line: Line, source: Source, rules: Rules, url: str, headers: Mapping[str, str]
) -> Followed:
    """Ask a URL, and wherever it redirects to, for the file.

    Raises:
        Transient: another attempt may succeed.
        Refused: none will.
        Ended: the transfer was ended.
    """
    facts: dict[str, str] = {}
    for _ in range(MAX_REDIRECTS + 1):
        hop, response = _ask(line, rules, url, headers)
        # What the hub redirects to says other things under the same names.
        if hop.is_hub:
            facts |= {name.lower(): value for name, value in response.headers.items()}
        location = response.headers.get("Location")
        if hop.status in REDIRECTS and location:
            url = _joined(url, location)
            finish(response)
            continue
        if hop.status not in {200, 206}:
            finish(response)
            raise answers.refusal(hop, source)
        if answers.is_web_page(hop) and not source.name.endswith((".html", ".htm")):
            raise answers.web_page(hop, source)
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding not in {"", "identity"}:
            raise Refused(f"{shown(url)} sends compressed content, though not asked to")
        return Followed(response, url, facts)
    raise Refused(f"{shown(source.url)} redirects more than {MAX_REDIRECTS} times")


def read(line: Line, view: memoryview, source: Source) -> int:
    """Read the next bytes of an answer into `view`; 0 at its end.

    Raises:
        Transient: it broke off.
        Ended: the transfer was ended.
    """
    try:
        return line.read(view)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise Transient(f"{shown(source.url)} broke off: {reason}") from None


def get_json(
    line: Line, source: Source, rules: Rules, url: str, patience: Patience
) -> tuple[Any, str | None]:
    """Return the JSON that a URL answers, and the URL of the next page, if there is one.

    Raises:
        Unreachable, Refused, Ended: as `follow` does, after all attempts.
    """

    def ask() -> tuple[Any, str | None]:
        found = follow(line, source, rules, url, {"Accept": "application/json"})
        try:
            body = found.response.read(MAX_JSON_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise _broken(url, error) from None
        if len(body) > MAX_JSON_BYTES:
            raise Refused(f"{shown(url)} answered more than {MAX_JSON_BYTES >> 20} MB of JSON")
        try:
            return json.loads(body), _next(found.response.headers.get("Link") or "")
        except (ValueError, RecursionError):
            raise Transient(f"{shown(url)} answered something that is no JSON") from None

    return patience.attempt(ask)


def _ask(
    line: Line, rules: Rules, url: str, headers: Mapping[str, str]
) -> tuple[Hop, http.client.HTTPResponse]:
    parts = rules.check(url)
    token = rules.token(parts)
    authorization = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        response = line.ask(parts, {**headers, **authorization})
    except ssl.SSLCertVerificationError as error:
        raise Refused(f"{shown(url)} has no valid certificate: {error.verify_message}") from None
    except (OSError, http.client.HTTPException) as error:
        line.close()
        # An end from outside looks like a failure here.
        line.check()
        raise _broken(url, error) from None
    hop = Hop(
        url=url,
        status=response.status,
        headers=response.headers,
        is_hub=rules.is_hub(parts),
        is_civitai=rules.is_civitai(parts),
        had_token=token is not None,
    )
    return hop, response


def _broken(url: str, error: Exception) -> Transient:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Transient(f"{shown(url)} could not be read: {reason[:200]}")


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise Refused(f"{shown(url)} redirects to what is no URL") from None


def finish(response: http.client.HTTPResponse) -> None:
    """Read a short rest, so that the connection serves again; a long one is not worth it.

    One without a length may never end.
    """
    if response.length is None or response.length > SHORT_BYTES:
        return
    with suppress(OSError, http.client.HTTPException):
        response.read()


def _next(link: str) -> str | None:
    """Return the URL of the next page (RFC 8288), as the hub's lists have it."""
    for part in link.split(","):
        address, _, relation = part.partition(">")
        if 'rel="next"' in relation:
            return address.strip().lstrip("<")
    return None
