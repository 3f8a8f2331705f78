"""The page in a real browser, with the real worker behind it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.support.browser import Watched, running_browser
from tests.support.comfyui import FAULT_NODES, prepare_base
from tests.support.platform import ROOT, RunningPlatform, running_platform
from tests.support.worker import worker_environment

HANDLER = [sys.executable, "handler.py"]


def comfyui_for_the_page(folder: Path) -> Mapping[str, str]:
    """A ComfyUI with the node that is watched."""
    base = folder / "base"
    prepare_base(base, (FAULT_NODES, FAULT_NODES.with_name("page_nodes.py")))
    return worker_environment(base)


@pytest.fixture(scope="module")
def platform() -> Iterator[RunningPlatform]:
    """A platform with one worker, shared by the module's tests."""
    with running_platform(HANDLER, folder=ROOT, worker_env=comfyui_for_the_page) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that ends with the module: while it runs, this thread has an event loop."""
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
