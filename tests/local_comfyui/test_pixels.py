from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from tests.local_comfyui import pixel_cases
from tests.support.comfyui import ComfyUI, running_comfyui

# Both calculate with floats and cut off when they save; the last bit of a float may differ.
TOLERANCE = 1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    base: Path = tmp_path_factory.mktemp("pixels")
    pixel_cases.prepare(base)
    with running_comfyui(base, []) as comfyui:
        yield comfyui


@pytest.mark.parametrize("case", pixel_cases.CASES)
def test_a_node_gives_the_pixels_of_the_real_comfyui(case: str, server: ComfyUI) -> None:
    live, recorded = pixel_cases.pictures(server, case), pixel_cases.recorded(case)

    assert [(picture.mode, picture.size) for picture in live] == [
        (picture.mode, picture.size) for picture in recorded
    ]
    assert max(map(largest_difference, live, recorded)) <= TOLERANCE


def largest_difference(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of any channel of any pixel."""
    bands = zip(one.split(), other.split(), strict=True)
    differences = (ImageChops.difference(*pair).getextrema()[1] for pair in bands)
    return max(int(difference) for difference in differences if not isinstance(difference, tuple))
