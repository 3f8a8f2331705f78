"""Keeps secrets out of everything that is printed or returned."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

MASK = "***"
MIN_LENGTH = 6
"""Shorter texts are no secrets, and masking them would garble everything else."""
MAX_LENGTH = 10_000
"""Longer texts are none either, and looking for them would take long."""
MIN_TOKEN_LENGTH = 12
"""Of a value in a URL's query: shorter ones are sizes, formats and the like."""

_SECRET_NAME = re.compile(
    r"(^|_)(api_?key|access_?key|access_id|secret(_?key)?|access_secret|token|password|passwd"
    r"|authorization|api_key_comfy_org|credentials?)$",
    re.IGNORECASE,
)


class Redactor:
    """Knows the secrets of the worker and of the jobs in hand. Safe to use from any thread.

    Args:
        secrets: The worker's own.
        linger_s: Seconds for which a job's are known after its end, or longer: ComfyUI's lines
            about it may still be on their way into the log.
    """

    def __init__(self, secrets: Iterable[str] = (), *, linger_s: float = 0.0) -> None:
        self._lock = threading.Lock()
        self._linger_s = linger_s
        self._lingering: deque[tuple[float, Counter[str]]] = deque()
        self._counts = Counter(_worth_masking(secrets))
        self._forms = self._by_length()

    @contextmanager
    def knowing(self, secrets: Iterable[str]) -> Iterator[None]:
        """Mask these as well, until the block ends."""
        added = Counter(_worth_masking(secrets))
        with self._lock:
            self._forget()
            self._counts += added
            self._forms = self._by_length()
        try:
            yield
        finally:
            with self._lock:
                self._lingering.append((time.monotonic() + self._linger_s, added))
                self._forget()
                self._forms = self._by_length()

    def text(self, text: str) -> str:
        """Return the text with every known secret masked."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def value(self, value: Any) -> Any:
        """Return the JSON-like value with every known secret in its texts masked.

        Anything that is no JSON becomes its text.
        """
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item) for item in value]
        return self.text(str(value))

    def _forget(self) -> None:
        while self._lingering and self._lingering[0][0] <= time.monotonic():
            self._counts -= self._lingering.popleft()[1]

    def _by_length(self) -> tuple[str, ...]:
        """Longest first: a secret may contain another one."""
        forms = {form for secret in self._counts for form in _forms(secret)}
        return tuple(sorted(forms, key=len, reverse=True))


def secrets_of(job: Mapping[str, Any]) -> list[str]:
    """Find the caller's secrets in a job, before anything else is done with it.

    They are the values of fields and node inputs that are named like secrets, and what a URL has in
    its user part and its query.
    """
    sent = job.get("input")
    if isinstance(sent, str):
        with suppress(ValueError, RecursionError):
            sent = json.loads(sent)
    if not isinstance(sent, Mapping):
        sent = {}
    groups: list[Any] = [sent, job.get("s3Config"), sent.get("s3Config")]
    workflow = sent.get("workflow")
    if isinstance(workflow, Mapping):
        groups += [node.get("inputs") for node in workflow.values() if isinstance(node, Mapping)]
    found = [secret for group in groups for secret in _named_like_secrets(group)]
    for name in ("images", "files"):
        entries = sent.get(name)
        for entry in entries if isinstance(entries, list) else ():
            for value in entry.values() if isinstance(entry, Mapping) else ():
                found += _in_url(value)
    return found


def _named_like_secrets(group: Any) -> Iterator[str]:
    for name, value in group.items() if isinstance(group, Mapping) else ():
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(name))
        if isinstance(value, str) and _SECRET_NAME.search(snake):
            yield value


def _in_url(value: Any) -> Iterator[str]:
    if not isinstance(value, str) or not value[:8].lower().startswith(("http://", "https://")):
        return
    with suppress(ValueError):
        parts = urlsplit(value)
        user_part = parts.netloc.rpartition("@")[0]
        yield from (user_part, user_part.partition(":")[2], parts.query)
        yield from (v for _, v in parse_qsl(parts.query) if len(v) >= MIN_TOKEN_LENGTH)


def _worth_masking(secrets: Iterable[str]) -> list[str]:
    """Without the line's end with which a key was pasted: it is printed without it as well."""
    stripped = (secret.strip() for secret in secrets)
    return [secret for secret in stripped if MIN_LENGTH <= len(secret) <= MAX_LENGTH]


def _forms(secret: str) -> set[str]:
    """All ways in which a secret may be written: in a URL, in JSON, in a Python text."""
    forms = {secret, unquote(secret), quote(secret), quote(secret, safe=""), quote_plus(secret)}
    forms |= {json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    return {form for form in forms if len(form) >= MIN_LENGTH}
