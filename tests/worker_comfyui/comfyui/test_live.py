"""What a watched job's progress carries beside the percent."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

from worker_comfyui.comfyui.events import Event, Executed, NodeStarted, Picture, Progress
from worker_comfyui.comfyui.live import MAX_FILES, MAX_NAME, Live
from worker_comfyui.comfyui.tracking import Tracker, Update
from worker_comfyui.media.output_file import OutputFile

WORKFLOW: dict[str, dict[str, Any]] = {
    "1": {"class_type": "KSampler", "inputs": {}},
    "2": {"class_type": "SaveImage", "inputs": {}},
}


def picture(red: int = 0, kind: str = "JPEG") -> Picture:
    to = io.BytesIO()
    Image.new("RGB", (64, 48), (red, 0, 0)).save(to, kind)
    return Picture("1", f"image/{kind.lower()}", to.getvalue())


def files(*names: str, kind: str = "output") -> Executed:
    items = [{"filename": name, "subfolder": "", "type": kind} for name in names]
    return Executed("2", {"images": items})


class Watched:
    """A prompt that is followed, with a clock of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self._live = Live(lambda: self.now)
        self._tracker = Tracker(WORKFLOW)

    def take(self, event: Event, kept: OutputFile | None = None) -> Update | None:
        """Take an event, as an attempt does."""
        return self._live.update(event, self._tracker.update(event), kept)


@pytest.fixture
def watched() -> Watched:
    prompt = Watched()
    prompt.take(NodeStarted("1"))
    return prompt


def red_of(update: Update | None) -> int:
    assert update is not None
    image = Image.open(io.BytesIO(base64.b64decode(update["preview"]["data"])))
    pixel = image.getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return round(pixel[0] / 10) * 10


def test_a_preview_comes_with_how_far_the_job_is(watched: Watched) -> None:
    update = watched.take(picture())
    assert update is not None
    assert (update["node"], update["percent"]) == ("KSampler", 0)
    assert (update["preview"]["width"], update["preview"]["height"]) == (64, 48)


def test_it_stays_until_there_is_a_newer_one(watched: Watched) -> None:
    watched.take(picture(100))
    assert red_of(watched.take(Progress({"1": 0.5}))) == 100


def test_one_is_made_a_second_of_the_newest_frame(watched: Watched) -> None:
    watched.take(picture(10))
    for red in (20, 30, 40):
        watched.now += 0.3
        assert watched.take(picture(red)) is None
    assert red_of(watched.take(Progress({"1": 0.5}))) == 10
    watched.now += 0.3
    assert red_of(watched.take(Progress({"1": 0.6}))) == 40


def test_the_last_one_of_a_node_is_shown(watched: Watched) -> None:
    watched.take(picture(10))
    watched.take(picture(200))
    assert red_of(watched.take(NodeStarted("2"))) == 200


def test_a_png_that_is_no_result_is_a_preview(watched: Watched) -> None:
    assert red_of(watched.take(picture(100, "PNG"))) == 100


def test_a_result_over_the_websocket_is_a_finished_file_and_no_preview(watched: Watched) -> None:
    event = picture(100, "PNG")
    update = watched.take(event, OutputFile("1", "images", "websocket_00001_.png"))
    assert update is not None
    assert update["files"] == ["websocket_00001_.png"]
    assert "preview" not in update


def test_a_frame_that_cannot_be_read_changes_nothing(watched: Watched) -> None:
    assert watched.take(Picture("1", "image/jpeg", b"nonsense")) is None


def test_finished_files_are_named_as_they_come(watched: Watched) -> None:
    first = watched.take(files("a.png", "b.png"))
    assert first is not None
    assert first["files"] == ["a.png", "b.png"]
    again = watched.take(files("b.png", "c.png"))
    assert again is not None
    assert again["files"] == ["a.png", "b.png", "c.png"]
    assert first["files"] == ["a.png", "b.png"]  # what was sent does not change afterwards


def test_what_is_only_shown_or_lies_elsewhere_is_not_named(watched: Watched) -> None:
    assert watched.take(files("a.png", kind="temp")) is None
    assert watched.take(files("../../etc/passwd")) is None
    assert watched.take(Executed("2", {"text": ["a caption"], "images": None})) is None


def test_names_are_bounded(watched: Watched) -> None:
    update = watched.take(files(*(f"{number}.png" for number in range(1000)), "x" * 1000))
    assert update is not None
    assert len(update["files"]) == MAX_FILES
    assert max(map(len, update["files"])) <= MAX_NAME


def test_nothing_is_said_before_the_first_node() -> None:
    assert Watched().take(picture()) is None
