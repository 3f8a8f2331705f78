"""Text for a terminal: what others wrote must not steer it."""

from __future__ import annotations

import logging
import re

# Colours are dropped without a trace: programs that print them mean no harm.
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
# All control characters, marks that reorder a line (https://trojansource.codes),
# and surrogates, which no terminal can be sent.
CONTROLS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def plain(text: str) -> str:
    """Make control characters visible: ESC is shown as a backslash and `x1b`."""
    return CONTROLS.sub(_visible, _COLOURS.sub("", text))


def plain_line(text: str) -> str:
    """The same for what must stay in its line."""
    return plain(" ".join(text.splitlines()))


def _visible(match: re.Match[str]) -> str:
    character = match.group()
    return character if character in "\t\n" else character.encode("unicode_escape").decode()


class PlainFormatter(logging.Formatter):
    """Log records as single plain lines; a traceback follows on lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Format the message alone."""
        record.message = plain_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's name
        """Format a traceback."""
        return plain(super().formatException(ei))  # type: ignore[arg-type]
