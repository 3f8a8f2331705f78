from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from local_runpod.client import picture
from local_runpod.client.display import show_picture
from local_runpod.client.outputs import Saved
from tests.local_runpod.test_display import Terminal

TRUE_COLOUR = {"COLORTERM": "truecolor"}
CELL = re.compile(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m▀")


def saved(path: Path) -> Saved:
    return Saved(path, path.stat().st_size, "base64")


def drawn(path: Path, environment: dict[str, str] = TRUE_COLOUR) -> list[str]:
    paint = picture.palette_of(environment)
    assert paint is not None
    return list(picture.draw(path, paint))


def test_each_character_shows_two_pixels(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 3), "red")
    image.putpixel((1, 0), (0, 0, 255))
    image.save(tmp_path / "a.png")
    first, second = drawn(tmp_path / "a.png")
    red, blue, black = ("255", "0", "0"), ("0", "0", "255"), ("0", "0", "0")
    assert CELL.findall(first) == [red + red, blue + red]
    assert CELL.findall(second) == [red + black, red + black]
    assert first.endswith("\x1b[0m")


def test_a_large_picture_keeps_its_shape_and_fits(tmp_path: Path) -> None:
    Image.new("L", (1600, 1000)).save(tmp_path / "a.webp")
    lines = drawn(tmp_path / "a.webp")
    assert {len(CELL.findall(line)) for line in lines} == {picture.COLUMNS}
    assert len(lines) == 20


def test_transparency_is_black(tmp_path: Path) -> None:
    Image.new("RGBA", (1, 2), (255, 255, 255, 0)).save(tmp_path / "a.png")
    (line,) = drawn(tmp_path / "a.png")
    assert CELL.findall(line) == [("0",) * 6]


def test_a_terminal_with_256_colours_gets_the_nearest(tmp_path: Path) -> None:
    Image.new("RGB", (1, 2), (250, 5, 130)).save(tmp_path / "a.png")
    (line,) = drawn(tmp_path / "a.png", {"TERM": "xterm-256color"})
    assert line == "\x1b[38;5;199;48;5;199m▀\x1b[0m"


@pytest.mark.parametrize(
    "environment", [{}, {"TERM": "dumb"}, {**TRUE_COLOUR, "NO_COLOR": "1"}], ids=str
)
def test_where_there_are_no_colours_nothing_is_drawn(environment: dict[str, str]) -> None:
    assert picture.palette_of(environment) is None


def test_the_first_picture_of_a_result_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLORTERM", "truecolor")
    (tmp_path / "a.png").write_bytes(b"no picture at all")
    for name, colour in (("b.png", "red"), ("c.png", "blue")):
        Image.new("RGB", (1, 2), colour).save(tmp_path / name)
    stream = Terminal()
    show_picture([saved(tmp_path / name) for name in ("a.png", "b.png", "c.png")], stream)
    assert CELL.findall(stream.getvalue()) == [("255", "0", "0") * 2]


def test_a_file_or_pipe_gets_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLORTERM", "truecolor")
    Image.new("RGB", (1, 2)).save(tmp_path / "a.png")
    show_picture([saved(tmp_path / "a.png")])
    assert capsys.readouterr().out == ""
