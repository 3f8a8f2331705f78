"""How the page looks, and what it is made of."""

from __future__ import annotations

import json
import os
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from tests.page.hands import EDITOR_FILE, drop_editor_file, run, state
from tests.support.browser import serious_faults
from tests.support.platform import ROOT, RunningPlatform

PAGE = ROOT / "src" / "local_runpod" / "page"
AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text()


SHOTS = os.environ.get("TEST_SCREENSHOTS")


def looked_at(page: Page, name: str) -> list[Any]:
    """Check what axe-core finds; with TEST_SCREENSHOTS, save a picture there as well."""
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)
    return serious_faults(page, AXE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", ["desk", "phone"])
def test_no_state_has_a_serious_fault(
    browser: Browser, platform: RunningPlatform, scheme: Any, device: str
) -> None:
    size = {"width": 390, "height": 844} if device == "phone" else {"width": 1280, "height": 900}
    options: dict[str, Any] = {"color_scheme": scheme, "viewport": size}
    faults: dict[str, list[Any]] = {}
    with browser.new_context(**options, reduced_motion="reduce") as context:
        page = context.new_page()
        page.goto(platform.url)
        faults["empty"] = looked_at(page, f"{device}-{scheme}-1-empty")
        drop_editor_file(page)
        page.get_by_text("1 more input").click()
        page.get_by_text("The same request in code").click()
        faults["form"] = looked_at(page, f"{device}-{scheme}-2-form")
        run(page, "slow")
        expect(page.locator("#preview")).to_be_visible()
        faults["running"] = looked_at(page, f"{device}-{scheme}-3-running")
        page.get_by_role("button", name="Cancel", exact=True).click()
        expect(state(page)).to_have_text("Cancelled")
        run(page, "fail")
        expect(page.get_by_role("alert")).to_be_visible()
        faults["failed"] = looked_at(page, f"{device}-{scheme}-4-failed")
        run(page, "a storm")
        expect(state(page)).to_have_text("Done")
        faults["done"] = looked_at(page, f"{device}-{scheme}-5-done")
        page.get_by_title("Show it large").click()
        faults["large"] = looked_at(page, f"{device}-{scheme}-6-large")
        page.keyboard.press("Escape")
        page.get_by_text("Endpoint: This server").click()
        page.get_by_label("An endpoint at RunPod").check()
        faults["endpoint"] = looked_at(page, f"{device}-{scheme}-7-endpoint")
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert {name: found for name, found in faults.items() if found} == {}
    assert wide <= 0


def test_everything_can_be_done_with_the_keyboard(page: Page, tmp_path: Path) -> None:
    (tmp_path / "dusk.json").write_text(json.dumps(EDITOR_FILE))
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the workflow")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#workflow-file")).to_be_focused()
    # Space would open the system's dialog.
    page.locator("#workflow-file").set_input_files(tmp_path / "dusk.json")
    prompt = page.get_by_label("text", exact=True)
    for _ in range(12):
        page.keyboard.press("Tab")
        if prompt.evaluate("e => e === document.activeElement"):
            break
    expect(prompt).to_be_focused()
    page.get_by_label("steps").press("Enter")  # as in every form
    expect(page.locator("#announcer")).to_have_text(re.compile("Running|Done"))


def test_the_page_is_small_and_names_no_other_address() -> None:
    files = [path for path in PAGE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 200_000
    allowed = ("https://api.runpod.ai/v2", "http://www.w3.org/2000/svg")
    for path in files:
        for address in re.findall(r"https?://[\w.-]+[^\s\"'`]*", path.read_text()):
            assert address in allowed, f"{path.name}: {address}"


def test_the_page_is_sent_with_a_strict_policy(platform: RunningPlatform) -> None:
    names = ["", *(f"page/{path.name}" for path in PAGE.iterdir())]
    for name in names:
        response = platform.get(f"/{name}")
        assert response.status_code == 200, name
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "name",
    ["page/../gateway/page.py", "page/%2e%2e/server.py", "page/nothing.js", "page/.", "page"],
)
def test_nothing_else_is_served(platform: RunningPlatform, name: str) -> None:
    request = requests.Request("GET", f"{platform.url}/").prepare()
    request.url = f"{platform.url}/{name}"  # not tidied up
    with requests.Session() as session:
        assert session.send(request, timeout=10).status_code == 404
