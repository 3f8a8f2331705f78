"""JSON as the standard has it: Python's own reader and writer also take NaN and Infinity."""

from __future__ import annotations

import json
from typing import Any


def load(data: bytes) -> Any:
    """Read strict JSON.

    Raises:
        ValueError: It is none.
    """
    try:
        return json.loads(data, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dump(value: Any) -> bytes:
    """Write strict JSON in UTF-8.

    Raises:
        ValueError: The value holds NaN or Infinity.
    """
    # Escaped: a lone surrogate, which JSON text can carry, has no UTF-8.
    return json.dumps(value, allow_nan=False).encode()


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
