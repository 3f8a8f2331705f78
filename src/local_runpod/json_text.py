"""JSON that everybody can read: Python's own reader also takes NaN, Infinity, 1e999, any depth."""

from __future__ import annotations

import json
import math
from typing import Any

DEEPEST = 256
"""Levels. What is read here must also be written here and read by workers, with whatever depth of
calls these have: Python's reader and writer fail at about a thousand levels of both together."""


def load(data: bytes) -> Any:
    """Read strict JSON.

    Raises:
        ValueError: It is none, or is nested too deeply.
    """
    try:
        value = json.loads(data, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError(f"nested too deeply: at most {DEEPEST} levels") from None
    # Counting brackets, those in texts too, is cheap, and nearly always enough.
    if data.count(b"[") + data.count(b"{") > DEEPEST:
        _check_depth(value)
    return value


def dump(value: Any) -> bytes:
    """Write strict JSON in UTF-8.

    Raises:
        ValueError: The value holds NaN or Infinity.
    """
    # Escaped: a lone surrogate, which JSON text can carry, has no UTF-8.
    return json.dumps(value, allow_nan=False).encode()


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is too large for a number")
    return number


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return
    raise ValueError(f"nested too deeply: at most {DEEPEST} levels")
