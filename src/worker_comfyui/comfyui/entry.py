"""What ComfyUI answers, and a prompt's entry in its history: nodes put anything into it."""

from __future__ import annotations

from typing import Any


def mapping(value: object) -> dict[str, Any]:
    """Return an object of an entry; an empty one where something else stands in its place."""
    return value if isinstance(value, dict) else {}


def word(value: object) -> str:
    """Return a text of an answer; an empty one where something else stands in its place."""
    return value if isinstance(value, str) else ""


def both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Join the history entries of two prompts: how they ended, and what both reported."""
    outputs: dict[str, Any] = {}
    for entry in (first, second):
        for node_id, output in mapping(entry.get("outputs")).items():
            known = outputs.setdefault(node_id, {})
            for key, value in mapping(output).items():
                known[key] = _joined(known.get(key), value)
    meta = {**mapping(first.get("meta")), **mapping(second.get("meta"))}
    has_failed = mapping(first.get("status")).get("status_str") == "error"
    return {**(first if has_failed else second), "outputs": outputs, "meta": meta}


def _joined(known: Any, value: Any) -> Any:
    if isinstance(known, list) and isinstance(value, list):
        return known + [item for item in value if item not in known]
    return value
