"""Which values of a job are its caller's secrets: found before anything is done with the job."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

MAX_VALUES = 100_000
"""Values of a request that are looked at, those nearest to its top first."""
MIN_TOKEN = 12
"""Characters of a value in a URL's query: shorter ones are sizes, formats and the like, unless
their name says otherwise."""
MIN_HEADER = 18
"""Characters of a text that can hold a header with a secret."""
MAX_TEXT = 10_000
"""Of a text that is searched for headers."""

_HOLDERS = (str, Mapping, list)
_NAME = re.compile(
    r"(^|_)(api_?key|access_?key|access_id|secret(_?key)?|access_secret|token|bearer|password"
    r"|passwd|passphrase|authorization|(api_key|auth_token)_comfy_org|credentials?)$"
)
_KEY = re.compile(r"(?=.*\d)[!-~]{16,}")
"""What a value looks like whose name ends in `_key`: others are `sort_key` and the like."""
_HEADER = re.compile(
    r"(?i:authorization|api[-_]?key|access[-_]?key|token|bearer|cookie)\\?[\"']?\s*[:=]?\s*\\?[\"']?"
    r"(?i:bearer\s+|basic\s+)?([A-Za-z0-9._~+/=-]{12,})"
)
_PATH_TOKEN = re.compile(
    r"(?:bot)?\d+:[A-Za-z0-9_-]{16,}"  # https://core.telegram.org/bots/api#making-requests
    r"|(?=[^A-Z]*[A-Z])(?=[^a-z]*[a-z])(?=\D*\d)[A-Za-z0-9_-]{24,}"
)


def secrets_of(job: Mapping[str, Any]) -> Iterator[str]:
    """Find the caller's secrets in a job.

    They are the values of fields and node inputs that are named like secrets or headers with them,
    what a URL has in its user part, its query and its path, and headers that stand in a text.
    """
    sent = job.get("input")
    if isinstance(sent, str):
        with suppress(ValueError, RecursionError):
            sent = json.loads(sent)
    for name, value in islice(_texts([job.get("s3Config"), sent]), MAX_VALUES):
        named = _named(name[:100])
        if named == "secret" or (named == "key" and _KEY.fullmatch(value[:5000])):
            yield value
            yield value.rpartition(" ")[2]  # without `Bearer`
        if value[:8].lower().startswith(("http://", "https://")):
            yield from _in_url(value)
        elif MIN_HEADER <= len(value) <= MAX_TEXT:
            yield from _HEADER.findall(value)


def _texts(roots: list[Any]) -> Iterator[tuple[str, str]]:
    """Walk through all texts with the names that they have, level by level."""
    waiting = deque(("", root) for root in roots)
    while waiting:
        name, value = waiting.popleft()
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, Mapping):
            waiting.extend((str(k), v) for k, v in value.items() if isinstance(v, _HOLDERS))
        elif isinstance(value, list):
            waiting.extend((name, v) for v in value if isinstance(v, _HOLDERS))


@lru_cache(maxsize=4096)
def _named(name: str) -> Literal["secret", "key", ""]:
    """Tell what a name says of its value; `x-api-key` and `6.apiKey` are like `api_key`."""
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    snake = re.sub(r"[-. ]", "_", snake).lower()
    if _NAME.search(snake):
        return "secret"
    return "key" if snake.endswith("_key") else ""


def _in_url(url: str) -> Iterator[str]:
    with suppress(ValueError):
        parts = urlsplit(url)
        user_part = parts.netloc.rpartition("@")[0]
        yield from (user_part, user_part.partition(":")[2], parts.query)
        for name, value in parse_qsl(parts.query):
            if len(value) >= MIN_TOKEN or _named(name[:100]) == "secret":
                yield value
        for part in parts.path.split("/"):
            if _PATH_TOKEN.fullmatch(unquote(part)):
                yield part
