"""Makes sure that a result can be posted: strict JSON, valid text, and how many bytes it has.

The SDK posts nothing at all for a result that it cannot serialise, and the job then hangs.
"""

from __future__ import annotations

import json
import math
from typing import Any

MAX_INTEGER_BITS = 10_000
"""Python writes no integer of more than 4,300 digits, some 14,000 bits, as text
(https://docs.python.org/3/library/stdtypes.html#int-max-str-digits), and few readers take one."""


def clean(value: Any) -> Any:
    """Return the value as strict JSON can carry it.

    NaN, infinities and endless integers become null, lone surrogates U+FFFD, keys text, and
    anything that is not JSON its text.
    """
    if isinstance(value, dict):
        return {clean(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    if value is None:
        return None
    if isinstance(value, (int, float)):
        return value if _is_writable(value) else None
    text = str(value)
    if text.isascii():
        return text
    # Through UTF-16: two surrogates that belong together become the one character that they are.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _is_writable(number: float) -> bool:
    if isinstance(number, int):
        return number.bit_length() <= MAX_INTEGER_BITS
    return math.isfinite(number)


def size(value: Any) -> int:
    """Count the bytes of a cleaned value's JSON as the SDK writes it, at most 2 an object too many.

    It makes no copy of it all.
    """
    if isinstance(value, dict):
        return 2 + sum(size(key) + size(item) + 4 for key, item in value.items())
    if isinstance(value, list):
        return 2 + sum(size(item) + 2 for item in value)
    return len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
