"""A picture as coloured text: each character shows two pixels, one above the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from PIL import Image

COLUMNS = 64
ROWS = 24
UPPER_HALF = "▀"
RESET = "\x1b[0m"

Colour = tuple[int, int, int]
Paint = Callable[[Colour], str]
"""Gives the parameters after `38;` or `48;` of a colour's escape sequence."""


def palette_of(environment: Mapping[str, str]) -> Paint | None:
    """Choose how the terminal is told a colour; None if it shows none, as far as it says.

    Sources: https://no-color.org, and `COLORTERM`, which terminals with 24 bits of colour set.
    """
    if environment.get("NO_COLOR"):
        return None
    if environment.get("COLORTERM") in {"truecolor", "24bit"}:
        return _true_colour
    return _cube if "256color" in environment.get("TERM", "") else None


def draw(path: Path, paint: Paint) -> Iterator[str]:
    """Yield the lines of a picture, at most `ROWS` of `COLUMNS` characters.

    Raises:
        ValueError: it is no picture that can be shown.
    """
    try:
        with Image.open(path) as image:
            image.thumbnail((COLUMNS, ROWS * 2))
            shown = image.convert("RGBA")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from error
    canvas = Image.new("RGBA", (shown.width, shown.height + shown.height % 2), "black")
    canvas.alpha_composite(shown)
    data = canvas.convert("RGB").tobytes()
    colours = list(zip(data[::3], data[1::3], data[2::3], strict=True))
    for row in range(0, canvas.height, 2):
        upper = colours[row * canvas.width : (row + 1) * canvas.width]
        lower = colours[(row + 1) * canvas.width : (row + 2) * canvas.width]
        cells = (
            f"\x1b[38;{paint(above)};48;{paint(below)}m{UPPER_HALF}"
            for above, below in zip(upper, lower, strict=True)
        )
        yield "".join(cells) + RESET


def _true_colour(colour: Colour) -> str:
    return "2;{};{};{}".format(*colour)


def _cube(colour: Colour) -> str:
    """Choose from the 6 x 6 x 6 colours that terminals with 256 have from number 16 on."""
    red, green, blue = (round(part / 255 * 5) for part in colour)
    return f"5;{16 + 36 * red + 6 * green + blue}"
