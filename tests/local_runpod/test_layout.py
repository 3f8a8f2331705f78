"""The rooms of the local platform: what each may import."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.project.test_layout import SRC, imported

HOME = SRC / "local_runpod"
SHARED = {"bell", "json_text", "limits", "terminal"}
MAY_IMPORT = {
    "client": {"client", "terminal"},
    "web": {"web", *SHARED},
    "jobs": {"jobs", *SHARED},
    "workers": {"workers", "jobs", "web", *SHARED},
    "gateway": {"gateway", "jobs", "web", *SHARED},
}


def rooms_of(path: Path) -> set[str]:
    """The rooms and modules of local_runpod that a file imports."""
    inside = (name.split(".") for name in imported(path) if name.startswith("local_runpod."))
    return {parts[1] for parts in inside}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_is_below_it(room: str) -> None:
    files = list((HOME / room).glob("*.py"))
    assert len(files) > 1
    for path in files:
        assert rooms_of(path) <= MAY_IMPORT[room], path
