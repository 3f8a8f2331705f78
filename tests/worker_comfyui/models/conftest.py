from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub import Hub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A stand-in whose delivery network is the same address: policies trust one."""
    with Hub(folder=tmp_path / "hub", one_port=True).running() as running:
        yield running
