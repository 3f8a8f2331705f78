"""Keeps secrets out of everything that is printed or returned."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
MIN_LENGTH = 6
"""Shorter texts are no secrets, and masking them would garble everything else."""
MAX_LENGTH = 4_096
"""Longer texts are none either."""
MAX_SECRETS = 64
"""Of one job: what a caller sends beyond that is the caller's own loss."""
HEAD = 8
"""Characters by which a secret is found, and of which a piece of one must have at least so many."""
MIN_ENCODED = 12
"""Of base64 and hexadecimal, where short texts look like others by chance."""
CUT_MARK = "..."
"""What stands where a text was cut, and with it perhaps a secret."""


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
        self._masker = _Masker(self._counts)

    @contextmanager
    def knowing(self, secrets: Iterable[str]) -> Iterator[None]:
        """Mask these as well, at most `MAX_SECRETS`, until the block ends."""
        added = Counter(islice(_worth_masking(secrets), MAX_SECRETS))
        with self._lock:
            self._forget()
            self._counts += added
            self._renew()
        try:
            yield
        finally:
            with self._lock:
                self._lingering.append((time.monotonic() + self._linger_s, added))
                self._forget()
                self._renew()

    def text(self, text: str) -> str:
        """Return the text with every known secret masked, and what is left of one at a cut."""
        return self._masker.masked(text)

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

    def _renew(self) -> None:
        # Most jobs bring no secret, and a masker is a pattern to compile.
        if self._counts.keys() != self._masker.secrets:
            self._masker = _Masker(self._counts)


class _Masker:
    """Masks a fixed set of secrets, in one pass over a text, however many they are."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self.secrets = frozenset(secrets)
        # Longest first: a secret may contain another one.
        forms = sorted({f for s in self.secrets for f in _forms(s)}, key=len, reverse=True)
        self._by_head: dict[str, list[str]] = {}
        for form in forms:
            self._by_head.setdefault(form[:HEAD], []).append(form)
        # A shorter head would hide a longer one that begins with it.
        heads = sorted(self._by_head, key=len, reverse=True)
        self._heads = re.compile("|".join(map(re.escape, heads))) if heads else None
        self._forms = "\0".join(forms) + "\0"

    def masked(self, text: str) -> str:
        if self._heads is None:
            return text
        pieces = []
        done = self._end_of_piece(text)
        if done:
            pieces.append(MASK)
        place = done
        while match := self._heads.search(text, place):
            end = self._end_of_secret(text, match)
            if end is None:
                place = match.start() + 1
                continue
            pieces += [text[done : match.start()], MASK]
            place = done = end
        return "".join([*pieces, text[done:]]) if pieces else text

    def _end_of_secret(self, text: str, match: re.Match[str]) -> int | None:
        """Return where the secret ends that begins at a match; None: there is none."""
        start = match.start()
        for form in self._by_head[match[0]]:
            if text.startswith(form, start):
                return start + len(form)
        for form in self._by_head[match[0]]:
            end = start + _common(form, text[start : start + len(form)])
            if end == len(text) or text.startswith(CUT_MARK, end):
                return end
        return None

    def _end_of_piece(self, text: str) -> int:
        """Return where the rest of a secret ends with which a text begins, as after a split."""
        head = text[:HEAD]
        place = self._forms.find(head) if len(head) == HEAD else -1
        while place >= 0:
            rest = self._forms[place : self._forms.find("\0", place)]
            common = _common(rest, text[: len(rest)])
            if common in {len(rest), len(text)}:
                return common
            place = self._forms.find(head, place + 1)
        return 0


def _common(one: str, other: str) -> int:
    """Count the characters that two texts have in common at their beginnings."""
    for number, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return number
    return min(len(one), len(other))


def _worth_masking(secrets: Iterable[str]) -> Iterator[str]:
    """Without the line's end with which a key was pasted: it is printed without it as well."""
    stripped = (secret[: MAX_LENGTH + 100].strip() for secret in secrets)
    return (secret for secret in stripped if MIN_LENGTH <= len(secret) <= MAX_LENGTH)


def _forms(secret: str) -> Iterator[str]:
    """All ways in which a secret may be written: in a URL, in JSON, in a Python text, encoded."""
    forms = {secret, unquote(secret), *(form(secret) for form in (_quoted, _all_quoted, _plus))}
    forms |= {json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    forms |= {json.dumps(form)[1:-1] for form in forms}  # JSON within JSON
    yield from (form for form in forms if len(form) >= MIN_LENGTH)
    raw = secret.encode("utf-8", "replace")
    encoded = {raw.hex(), raw.hex().upper()}
    for text in _base64(raw):
        encoded |= {text, text.replace("+", "-").replace("/", "_")}
    yield from (form for form in encoded if len(form) >= MIN_ENCODED)


def _quoted(secret: str) -> str:
    return quote(secret, errors="replace")


def _all_quoted(secret: str) -> str:
    return quote(secret, safe="", errors="replace")


def _plus(secret: str) -> str:
    return quote_plus(secret, errors="replace")


def _base64(raw: bytes) -> Iterator[str]:
    """Encode bytes as they appear within the base64 of something longer, in each of three places.

    The characters at both ends depend on the neighbours, and are left out.
    """
    for before in range(3):
        text = base64.b64encode(bytes(before) + raw).decode("ascii")
        yield text[(8 * before + 5) // 6 : 8 * (before + len(raw)) // 6]
