"""The page with the real worker: an API export runs, and its picture and video are shown."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, FilePayload, expect

from tests.end_to_end.workflows import solid_colour
from tests.support.browser import Watched, running_browser
from tests.support.platform import ROOT, RunningPlatform


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture
def watched(browser: Browser, platform: RunningPlatform) -> Iterator[Watched]:
    with browser.new_context() as context:
        watched = Watched(context.new_page(), platform.url)
        watched.page.goto(f"{platform.url}/")
        yield watched
        assert watched.problems == []


def take(watched: Watched, name: str, content: bytes, says: str = "") -> None:
    """Choose a workflow file, and wait for what the page says of it."""
    file: FilePayload = {"name": name, "mimeType": "application/json", "buffer": content}
    watched.page.locator("#workflow-file").set_input_files([file])
    expect(watched.page.locator("#workflow-state")).to_have_text(says, timeout=30_000)


def run(watched: Watched) -> None:
    watched.page.get_by_role("button", name="Run").click()
    expect(watched.page.locator("#job-state")).to_have_text("Done", timeout=60_000)


def test_a_workflow_runs_with_a_changed_input(watched: Watched) -> None:
    take(watched, "colour.json", json.dumps(solid_colour(3)).encode())
    watched.page.get_by_label("width").fill("48")
    run(watched)
    picture = watched.page.locator("#gallery img")
    assert picture.evaluate("i => i.decode().then(() => i.naturalWidth)") == 48


def test_the_example_runs(watched: Watched) -> None:
    watched.page.get_by_role("button", name="Example").click()
    expect(watched.page.locator("#workflow-name")).to_have_text("example.json")
    expect(watched.page.locator("#workflow-state")).to_be_empty(timeout=30_000)
    run(watched)
    expect(watched.page.get_by_role("img", name="example_00001_.png")).to_be_visible()


def test_a_video_is_played(watched: Watched) -> None:
    request = (ROOT / "test_resources" / "workflows" / "video.json").read_bytes()
    take(watched, "video.json", request)
    run(watched)
    seconds = watched.page.locator("video").first.evaluate(
        """v => new Promise((done, fail) => {
            v.onerror = () => fail(v.error.message);
            const tell = () => done(v.duration);
            if (v.readyState) tell(); else v.onloadedmetadata = tell;
        })"""
    )
    assert seconds > 0


def test_an_error_of_comfyui_leads_to_the_input(watched: Watched) -> None:
    workflow = solid_colour(3)
    workflow["1"]["inputs"]["width"] = "wide"
    take(watched, "wrong.json", json.dumps(workflow).encode(), says="1 problem, before it runs:")
    watched.page.get_by_role("button", name="Run").click()
    expect(watched.page.get_by_role("alert")).to_contain_text("PROMPT_REJECTED", timeout=30_000)
    watched.page.get_by_role("button", name="Go to the input").click()
    expect(watched.page.get_by_label("width")).to_be_focused()
