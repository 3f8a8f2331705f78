"""How ComfyUI names the class of an exception in its answers."""

from __future__ import annotations


def full_type_name(kind: type) -> str:
    """A class's name with its module, which builtins leave out."""
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"
