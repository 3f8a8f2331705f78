from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from local_runpod.client import picture
from local_runpod.client.display import show_picture
from local_runpod.client.outputs import Saved
from tests.local_runpod.test_display import Terminal

CELL = re.compile(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m▀")


def saved(path: Path) -> Saved:
    return Saved(path, path.stat().st_size, "base64")


def drawn(path: Path, *, terminal: str = "xterm", colours: str = "truecolor") -> list[str]:
    environment = {"TERM": terminal, "COLORTERM": colours}
    console = Console(file=Terminal(), _environ=environment, width=200)
    assert picture.can_show(console)
    with console.capture() as capture:
        console.print(picture.drawn(path), end="")
    return capture.get().splitlines()


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
    (line,) = drawn(tmp_path / "a.png", terminal="xterm-256color", colours="")
    assert line == "\x1b[38;5;198;48;5;198m▀\x1b[0m"


@pytest.mark.parametrize(
    "environment",
    [{}, {"TERM": "dumb", "COLORTERM": "truecolor"}, {"COLORTERM": "truecolor", "NO_COLOR": "1"}],
    ids=str,
)
def test_where_there_are_no_colours_nothing_is_drawn(environment: dict[str, str]) -> None:
    assert not picture.can_show(Console(file=Terminal(), _environ=environment))


def test_formats_whose_decoders_start_programs_are_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"
        b"1 0 0 setrgbcolor 0 0 8 8 rectfill\nshowpage\n%%EOF\n"
    )
    with pytest.raises(ValueError, match="cannot identify"):
        picture.drawn(path)
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "TIFF")
    with pytest.raises(ValueError, match="cannot identify"):
        picture.drawn(buffer.getvalue())


def test_a_picture_of_very_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    Image.new("1", (9000, 9000)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="too large"):
        picture.drawn(tmp_path / "a.png")


def test_the_first_picture_of_a_result_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
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
