"""A picture as coloured text: each character shows two pixels, one above the other."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

COLUMNS = 64
ROWS = 24
UPPER_HALF = "▀"
# Pillow knows more, but its other decoders do what nobody expects: that of EPS starts Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MOST_PIXELS = 64_000_000


def can_show(console: Console) -> bool:
    """Tell whether the console is a terminal with enough colours for pictures."""
    return (
        console.is_terminal
        and not console.is_dumb_terminal
        and not console.no_color
        and console.color_system in {"256", "truecolor", "windows"}
    )


def drawn(source: Path | bytes, columns: int = COLUMNS, rows: int = ROWS) -> Segments:
    """Make a picture of at most so many characters.

    Args:
        source: The file, or its content.
        columns: The most characters in a line.
        rows: The most lines.

    Raises:
        ValueError: It is no picture that can be shown.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError("too large")
            image.thumbnail((columns, rows * 2))
            shown = image.convert("RGBA")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from error
    canvas = Image.new("RGBA", (shown.width, shown.height + shown.height % 2), "black")
    canvas.alpha_composite(shown)
    return Segments(_cells(canvas.convert("RGB")))


def _cells(canvas: Image.Image) -> Iterator[Segment]:
    data = canvas.tobytes()
    colours = [Color.from_rgb(*pixel) for pixel in zip(data[::3], data[1::3], data[2::3])]  # noqa: B905 - of equal length
    for row in range(0, canvas.height, 2):
        upper = colours[row * canvas.width : (row + 1) * canvas.width]
        lower = colours[(row + 1) * canvas.width : (row + 2) * canvas.width]
        for above, below in zip(upper, lower, strict=True):
            yield Segment(UPPER_HALF, Style.from_color(above, below))
        yield Segment.line()
