"""How transfers speak of addresses and statuses.

The same as the worker's own, written again on purpose: the build of the images has this package
alone, so that no change of the worker makes it download the weights again.
"""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from urllib.parse import urlsplit

MAX_URL = 200


def shown(url: str) -> str:
    """Shape a URL for messages: without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        text = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        return "the URL"
    return text if len(text) <= MAX_URL else f"{text[: MAX_URL - 3]}..."


def status(code: int) -> str:
    """Write an HTTP status for people: `404 Not Found`."""
    with suppress(ValueError):
        return f"{code} {HTTPStatus(code).phrase}"
    return str(code)
