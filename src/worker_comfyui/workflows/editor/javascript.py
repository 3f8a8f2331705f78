"""What JavaScript would do with a JSON value, where the editor's export depends on it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

# Objects put indexes first, which end at 2**32 - 2; ids of nodes stay far below.
_INDEX = re.compile("0|[1-9][0-9]{0,8}")


def truthy(value: Any) -> bool:
    """Tell whether JavaScript takes it for true: empty lists and objects are."""
    return isinstance(value, list | dict) or bool(value)


def text(value: Any) -> str:
    """Write it as `String(value)` does: 5.0 as `5`, true as `true`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:  # then exponents
        return str(int(value))
    if isinstance(value, list):
        return ",".join("" if item is None else text(item) for item in value)
    return "[object Object]" if isinstance(value, dict) else str(value)


def number(value: Any) -> float | None:
    """Read it as a number, None where JavaScript gets NaN; null counts as 0."""
    if isinstance(value, int | float):
        return value
    if value is None or value == "":
        return 0
    try:
        read = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if math.isnan(read):
        return None
    return int(read) if read.is_integer() else read


def rounded(value: float) -> int:
    """Round half up, as `Math.round` does."""
    return value if isinstance(value, int) else math.floor(value + 0.5)


def key_order(keys: Iterable[str]) -> list[str]:
    """Sort keys as objects have them: whole numbers first, by size; the rest as they came."""
    every = list(keys)
    numbers = [key for key in every if _INDEX.fullmatch(key)]
    return [*sorted(numbers, key=int), *(key for key in every if not _INDEX.fullmatch(key))]
