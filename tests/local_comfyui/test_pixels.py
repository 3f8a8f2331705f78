from __future__ import annotations

import pytest
from PIL import Image, ImageChops

from tests.local_comfyui import pixel_cases
from tests.support.comfyui import ComfyUI

# Both calculate with floats and cut off when they save; the last bit of a float may differ.
TOLERANCE = 1


@pytest.mark.parametrize("case", pixel_cases.CASES)
def test_a_node_gives_the_pixels_of_the_real_comfyui(case: str, server: ComfyUI) -> None:
    pixel_cases.prepare(server.base)
    live, recorded = pixel_cases.pictures(server, case), pixel_cases.recorded(case)

    assert [(each.mode, each.size) for each in live] == [
        (each.mode, each.size) for each in recorded
    ]
    assert max(map(largest_difference, live, recorded)) <= TOLERANCE


def largest_difference(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of any channel of any pixel."""
    bands = zip(one.split(), other.split(), strict=True)
    differences = (ImageChops.difference(*pair).getextrema()[1] for pair in bands)
    return max(int(difference) for difference in differences if not isinstance(difference, tuple))
