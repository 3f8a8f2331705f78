"""A real browser for tests: an installed Chromium or Chrome, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
# It must look for nothing in the network by itself.
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text()


def find_browser() -> str | None:
    """The program that TEST_BROWSER names, or the first that is installed."""
    named = os.environ.get("TEST_BROWSER")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run a browser until the context ends; without one, the test is skipped."""
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium or Chrome is installed (on Debian: apt-get install chromium)")
    expect.set_options(timeout=30_000)  # on a busy machine
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page of which everything is noted that should not happen.

    Args:
        page: The page.
        origin: The only address that it may ask.
    """

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin
        self.problems: list[str] = []
        page.on("console", lambda message: self._note_message(message.type, message.text))
        page.on("pageerror", lambda error: self.problems.append(f"uncaught: {error}"))
        page.on("request", self._note_request)
        page.set_default_timeout(30_000)
        page.set_default_navigation_timeout(60_000)

    def _note_message(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.problems.append(f"{kind}: {text}")

    def _note_request(self, request: Request) -> None:
        own = (f"{self.origin}/", f"blob:{self.origin}/", "data:")
        if not request.url.startswith(own):
            self.problems.append(f"request to {request.url}")


def serious_faults(page: Page, rules: Sequence[str] | None = None) -> list[Any]:
    """What axe-core finds serious or critical, as (rule, elements).

    Args:
        page: The page, as it is now.
        rules: The only rules to look at; None: all.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules is not None:
        options["runOnly"] = list(rules)
    found = page.evaluate("options => axe.run(document, options)", options)
    return [
        (fault["id"], [node["html"][:200] for node in fault["nodes"]])
        for fault in found["violations"]
        if fault["impact"] in {"serious", "critical"}
    ]
