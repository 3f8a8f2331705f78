from __future__ import annotations

import re
from pathlib import Path

from worker_comfyui.platform_side import sdk

ROOT = Path(__file__).resolve().parents[2]


def test_the_release_of_the_sdk_that_is_pinned_is_the_one_that_is_called_tested() -> None:
    (pinned,) = re.findall(r"^runpod==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert pinned == sdk.TESTED
