"""Content that stands in the request itself: base64 and data URIs, decoded piece by piece."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from worker_comfyui.errors import InvalidRequest
from worker_comfyui.request.sink import Sink
from worker_comfyui.stop import Stop

FORMS = "must be base64, a data URI or an http(s) URL"
MAX_HEAD = 200
"""Characters before the comma of a data URI that lost its `data:`."""
PIECE = 1 << 20
"""Characters that are decoded at once."""

_WHITESPACE = " \t\r\n\v\f"
_SPACE_BYTES = _WHITESPACE.encode()
_URLSAFE = bytes.maketrans(b"-_", b"+/")
_HEADLESS = re.compile(
    r"(?:[a-z]{1,20}/[a-z0-9.+-]{1,80};)?(?:[a-z-]+=[^;,]{1,40};)?base64,", re.IGNORECASE
)
"""A data URI without its `data:`, or its media type too. Base64 has no comma: it cannot be one."""


def write(source: str, sink: Sink, stop: Stop) -> None:
    """Decode base64 or a data URI into a sink.

    Base64 may have line breaks, spaces, the URL-safe alphabet and no padding; anything else that
    is not base64 is refused. So is `data:` without a comma.

    Raises:
        InvalidRequest: it is neither.
        InputTooLarge: it has more bytes than the sink takes.
        JobCancelled, TimedOut: as `stop` says.
    """
    try:
        if source[:5].lower() == "data:":
            _data_uri(source, sink, stop)
        elif head := _HEADLESS.match(source[:MAX_HEAD]):
            _base64(source[head.end() :], sink, stop)
        else:
            _base64(source, sink, stop)
    except (UnicodeError, binascii.Error):
        raise InvalidRequest(f"{FORMS}, and it is none of them") from None


def _data_uri(source: str, sink: Sink, stop: Stop) -> None:
    head, comma, body = source.partition(",")
    if not comma:
        raise InvalidRequest("is a data URI without a comma before its data")
    if head.lower().endswith(";base64"):
        _base64(unquote_to_bytes(body).decode("latin-1") if "%" in body else body, sink, stop)
        return
    sink.expect(len(body) - 2 * body.count("%"))
    for piece in _pieces(body):
        stop.check()
        sink.write(unquote_to_bytes(piece))


def _base64(source: str, sink: Sink, stop: Stop) -> None:
    text = source.rstrip(_WHITESPACE + "=")  # padding is made anew: many leave it out
    sink.expect((len(text) - sum(map(text.count, _WHITESPACE))) * 3 // 4)
    rest = b""
    for start in range(0, len(text), PIECE):
        stop.check()
        piece = text[start : start + PIECE].encode("ascii")
        piece = rest + piece.translate(_URLSAFE, _SPACE_BYTES)
        whole = len(piece) - len(piece) % 4
        sink.write(binascii.a2b_base64(piece[:whole], strict_mode=True))
        rest = piece[whole:]
    if rest:
        sink.write(binascii.a2b_base64(rest + b"=" * (-len(rest) % 4), strict_mode=True))


def _pieces(text: str) -> Iterator[str]:
    """Cut a text, but no `%41` in two."""
    start = 0
    while start < len(text):
        end = start + PIECE
        if (percent := text.rfind("%", end - 2, end)) >= 0:
            end = percent + 3
        yield text[start:end]
        start = end
