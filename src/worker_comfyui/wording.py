"""How a message speaks of what somebody sent: cut to a length, a few of many, what was meant. Pure.

Only what is likely is suggested: a wrong guess leads away from the fix.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from http import HTTPStatus
from itertools import islice
from json import JSONDecodeError
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

MAX_TEXT = 300
"""Characters of a name or value, where a message quotes it."""
MAX_URL = 200
MAX_ITEMS = 100
"""Of a list or an object that an error quotes."""
MAX_COMPARED = 300
LIKELY = 0.74
"""Of the characters: `hihg` is like `high` (0.75)."""
LIKELY_CLASS = 0.86
"""`KSamplr` is like `KSampler` (0.93); `Image Save` is not `ImageScale` (0.84)."""


def shortened(text: str, limit: int) -> str:
    """Cut a text that is too long."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def shortened_all(value: Any, limit: int, depth: int = 4) -> Any:
    """Cut every text in a JSON-like value, and lists and objects after `MAX_ITEMS`."""
    if isinstance(value, str):
        return shortened(value, limit)
    if isinstance(value, (dict, list, tuple)) and depth == 0:
        return "..."
    if isinstance(value, dict):
        items = islice(value.items(), MAX_ITEMS)
        return {shortened(str(k), limit): shortened_all(v, limit, depth - 1) for k, v in items}
    if isinstance(value, (list, tuple)):
        return [shortened_all(item, limit, depth - 1) for item in islice(value, MAX_ITEMS)]
    return value


def cut(value: object, limit: int = MAX_TEXT) -> str:
    """Make what came from outside fit for a message: short, and without unprintable characters."""
    text = shortened(str(value), limit)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def json_fault(error: ValueError | RecursionError) -> str:
    """Say why a text is no JSON that can be read, without Python's advice to who runs it."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    # A long integer is JSON, but Python reads none of more than 4,300 digits.
    is_syntax = isinstance(error, JSONDecodeError | UnicodeDecodeError)
    return cut(error) if is_syntax else "it has a number of thousands of digits"


def shown(url: str) -> str:
    """Shape a URL for messages: without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "the URL"
    return cut(f"{parts.scheme}://{host}{parts.path}", MAX_URL)


def status(code: int) -> str:
    """Write an HTTP status for people: `404 Not Found`."""
    with suppress(ValueError):
        return f"{code} {HTTPStatus(code).phrase}"
    return str(code)


def listed(names: Collection[str], most: int = 10) -> str:
    """Name the first few, and count the rest."""
    first = ", ".join(repr(cut(name)) for name in islice(names, most))
    rest = len(names) - most
    return f"{first} and {rest} more" if rest > 0 else first


def likely(wanted: str, names: Iterable[str], *, at_least: float = LIKELY) -> str | None:
    """Return the name that was probably meant; None: none is like it enough.

    Case, spaces, folders and word separators count little; an ending that file names share does not
    make them alike.
    """
    bare = {_bare(name): name for name in names if name != wanted}
    sought = _bare(wanted)
    if sought in bare:
        return bare[sought]
    close = difflib.get_close_matches(sought, bare, n=1, cutoff=at_least)
    return bare[close[0]] if close and sought else None


def _bare(name: str) -> str:
    name = name[:MAX_COMPARED].replace("\\", "/")
    path = PurePosixPath(name)
    stem = path.stem if re.fullmatch(r"\.[A-Za-z0-9]{1,12}", path.suffix) else path.name
    return re.sub(r"[\W_]+", "", stem.casefold())
