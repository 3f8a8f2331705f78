"""Texts found in a container, and how much of them there may be."""

from __future__ import annotations

from worker_comfyui.media.containers import DamagedError, Parts

MAX_TEXT_BYTES = 32 * 1024 * 1024
"""All texts of a file together. A workflow has some hundred kilobytes."""

Texts = dict[str, str]
"""Names such as `prompt` and `workflow`, in lower case, with their texts."""


class Collected(Parts):
    """Collects the texts of one file.

    Raises:
        DamagedError: there are too many, or too long ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.texts: Texts = {}
        self._bytes = 0

    def add(self, name: str, text: bytes | str) -> None:
        """Keep a text; of those with the same name, the first."""
        self._bytes += len(text)
        if self._bytes > MAX_TEXT_BYTES:
            raise DamagedError("has more text than a workflow needs")
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        self.texts.setdefault(name.lower(), text.rstrip("\0"))
