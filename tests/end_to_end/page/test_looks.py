"""How the page looks, and what it is made of."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import requests
from playwright.sync_api import FileChooser, Locator, Page, expect

from tests.end_to_end.page.hands import API_FILE, prompt, state
from tests.support.platform import ROOT, RunningPlatform
from tests.support.waiting import wait_until

PAGE = ROOT / "src" / "local_runpod" / "page"


def tab_to(page: Page, target: Locator) -> None:
    """Press Tab until something has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if target.evaluate("e => e === document.activeElement"):
            return
    raise AssertionError(f"the keyboard does not come to {target}")


def test_everything_can_be_done_with_the_keyboard(page: Page, tmp_path: Path) -> None:
    """From the skip link to a result, a cancelled job, and one of the list of jobs."""
    (tmp_path / "sea.json").write_text(json.dumps(API_FILE))
    choosers: list[FileChooser] = []
    # Now, not where the key is pressed: the browser is told in the background.
    # (A function of Python: Playwright marks it.)
    page.on("filechooser", lambda chooser: choosers.append(chooser))  # noqa: PLW0108
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the workflow")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#workflow-file")).to_be_focused()

    def has_come() -> bool:
        page.wait_for_timeout(20)  # Playwright hears the browser only while it is asked to wait
        return bool(choosers)

    page.keyboard.press("Space")
    wait_until(has_come)
    choosers[0].set_files(tmp_path / "sea.json")
    expect(page.locator("#workflow-state")).to_be_empty()

    tab_to(page, prompt(page))
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("a storm")
    tab_to(page, page.get_by_label("steps"))
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("1000")
    tab_to(page, page.get_by_role("button", name="Run"))
    page.keyboard.press("Enter")
    cancel = page.locator("#cancel")
    expect(cancel).to_be_focused()
    expect(page.locator("#announcer")).to_have_text(re.compile("Running"))
    page.keyboard.press("Enter")
    expect(page.locator("#announcer")).to_have_text("Cancelled")
    expect(page.locator("#job-title")).to_be_focused()

    page.get_by_label("steps").focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("1")
    page.keyboard.press("Enter")  # as in every form
    expect(state(page)).to_have_text("Done")
    tab_to(page, page.get_by_title("Show it large"))
    page.keyboard.press("Enter")
    expect(page.locator("#lightbox-image")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_title("Show it large")).to_be_focused()
    tab_to(page, page.locator("#jobs button").nth(1))
    page.keyboard.press("Enter")
    expect(page.locator("#job-title")).to_be_focused()
    expect(state(page)).to_have_text("Cancelled")


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
