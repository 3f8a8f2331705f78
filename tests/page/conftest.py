"""The page in a real browser, with a worker that keeps the contract."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.support.browser import Watched, running_browser
from tests.support.platform import RunningPlatform, running_platform

WORKER = [sys.executable, str(Path(__file__).with_name("worker.py"))]


@pytest.fixture(scope="module")
def platform() -> Iterator[RunningPlatform]:
    with running_platform(WORKER) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture
def watched(browser: Browser, platform: RunningPlatform) -> Iterator[Watched]:
    """The page in a tab of its own; in the end, nothing must have happened that should not."""
    with browser.new_context(permissions=["clipboard-read", "clipboard-write"]) as context:
        watched = Watched(context.new_page(), platform.url)
        watched.page.goto(f"{platform.url}/")
        yield watched
        assert watched.problems == []


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page
