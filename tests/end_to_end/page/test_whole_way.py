"""The whole way of a person who opens the page for the first time, with the real worker."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Locator, expect

from tests.end_to_end.page.hands import (
    EDITOR_FILE,
    EVERY_KIND,
    TEXT,
    copied,
    drop,
    drop_workflow,
    photo,
    prompt,
    run,
    state,
)
from tests.end_to_end.page.looks import Looks
from tests.support.browser import Watched
from tests.support.described import Notes
from tests.support.platform import RunningPlatform

NATURAL_WIDTH = "i => i.decode().then(() => i.naturalWidth)"
SECONDS = """media => new Promise((done, fail) => {
    media.onerror = () => fail(media.error.message);
    const tell = () => done(media.duration);
    if (media.readyState) tell(); else media.onloadedmetadata = tell;
})"""


def picture(job: dict[str, Any]) -> Image.Image:
    """The only picture of a job."""
    (item,) = job["output"]["images"]
    return Image.open(io.BytesIO(base64.b64decode(item["data"]))).convert("RGB")


@pytest.mark.timeout(300)  # many looks, on a busy machine
def test_a_workflow_is_dropped_run_watched_cancelled_and_fails(
    watched: Watched, platform: RunningPlatform, notes: Notes, tmp_path: Path
) -> None:
    page, looks = watched.page, Looks(watched.page)
    expect(page.locator("#health")).to_have_text("1 worker ready")
    looks.at("1-empty")

    drop_workflow(page, EDITOR_FILE, says="1 problem, before it runs:")
    missing = "Node 1, image: there is no input file 'photo.png'"
    expect(page.locator("#workflow-problems")).to_contain_text(missing)
    expect(prompt(page)).to_have_value(TEXT)
    looks.at("2-form-with-a-problem")
    drop(page, "#inputs .drop", "photo.png", photo(), "image/png")
    expect(page.locator("#workflow-state")).to_be_empty()
    page.get_by_text("The same request in code").click()
    looks.at("3-form")

    run(page, "a storm", steps=60)
    expect(page.locator("#preview")).to_be_visible()
    expect(state(page)).to_have_text("Done")
    expect(page.locator("#preview")).to_be_hidden()
    made = page.get_by_role("img", name="dusk_00001_.png")
    assert made.evaluate(NATURAL_WIDTH) == 512
    looks.at("4-done")
    first = platform.status(str(page.locator("#job-id").text_content()))
    sent = notes.jobs[-1].request["input"]
    assert sent["overrides"] == {"2:11.text": "a storm", "2:11.steps": 60, "1.image": "photo.png"}
    assert not ImageChops.difference(picture(first), Image.open(io.BytesIO(photo()))).getbbox()

    run(page, "a calm", steps=1000)
    expect(page.locator("#preview")).to_be_visible()
    assert page.locator("#preview").evaluate(NATURAL_WIDTH) == 256
    expect(page.locator("#job-node")).to_contain_text("PagePainter (node 2:11)")
    looks.at("5-running")
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(state(page)).to_have_text("Cancelled")
    cancelled = platform.status(str(page.locator("#job-id").text_content()))
    assert cancelled["status"] == "CANCELLED"
    looks.at("6-cancelled")

    run(page, "fail")
    expect(page.get_by_role("alert")).to_contain_text("EXECUTION_FAILED: node 2:11 (PagePainter)")
    expect(page.get_by_role("alert")).to_contain_text("the paint is dry")
    looks.at("7-failed")
    page.get_by_role("button", name="Go to the node").click()
    expect(prompt(page)).to_be_focused()

    prompt(page).fill('it\'s a $HOME `x` \\ "test"')
    line = copied(page)
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    job = json.loads(done.stdout)
    assert job["status"] == "COMPLETED", job
    assert notes.jobs[-1].request["input"]["overrides"]["2:11.text"] == prompt(page).input_value()
    assert not ImageChops.difference(picture(job), picture(first)).getbbox()
    assert looks.faults == {}


@pytest.mark.timeout(300)
def test_every_kind_of_result_is_shown(watched: Watched) -> None:
    page, looks = watched.page, Looks(watched.page)
    drop_workflow(page, EVERY_KIND)
    run(page, "a storm")
    expect(state(page)).to_have_text("Done")
    gallery = page.locator("#gallery")
    assert seconds_of(gallery.locator("video")) == 1
    assert 0.4 < seconds_of(gallery.locator("audio")) < 0.6
    expect(gallery.locator("figure.text pre")).to_have_text("a <b>storm</b> over the sea")
    expect(gallery.get_by_role("img", name="sea_00001_.png")).to_be_visible()
    with page.expect_download() as started:
        page.get_by_role("link", name="page.html").click()
    assert started.value.suggested_filename == "page.html"  # saved, never opened
    assert Path(started.value.path()).read_bytes() == b"<script>alert(1)</script>"
    expect(page.locator("#job-facts")).to_contain_text("in ComfyUI")
    page.get_by_text("The job as JSON").click()
    expect(page.locator("#job-json-text")).to_contain_text('"status": "COMPLETED"')
    expect(page.locator("#jobs")).to_contain_text("1 video, 1 audio, 1 file, 1 text")
    looks.at("8-every-kind")

    page.get_by_title("Show it large").press("Enter")
    expect(page.locator("#lightbox-image")).to_be_visible()
    looks.at("9-large")
    page.keyboard.press("Escape")
    expect(page.locator("#lightbox-image")).to_be_hidden()

    page.get_by_text("Pick one that is stored").click()
    expect(page.get_by_role("button", name="editor/frame")).to_be_visible()
    page.get_by_text("Endpoint: This server").click()
    page.get_by_label("An endpoint at RunPod").check()
    looks.at("10-stored-and-endpoint")
    assert looks.faults == {}


def seconds_of(media: Locator) -> float:
    """How long the browser can play it."""
    return float(media.evaluate(SECONDS))
