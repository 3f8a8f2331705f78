"""A job on the page: run, watched, cancelled, failed, found again."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.page.hands import drop_editor_file, run, state
from tests.support.platform import RunningPlatform


def test_from_a_dropped_file_to_its_picture(page: Page, platform: RunningPlatform) -> None:
    drop_editor_file(page)
    expect(page.locator("#models")).to_have_text("Model sd15.safetensors: will be downloaded")
    run(page, "a storm, <b>bold</b>")
    expect(page.locator("#job-node")).to_have_text("KSampler (node 3), 50 % of it")
    expect(page.locator("#preview")).to_be_visible()
    assert page.locator("#preview").evaluate("i => i.decode().then(() => i.naturalWidth)") == 256
    expect(page.locator("#made")).to_have_text("Made: draft.png")
    expect(state(page)).to_have_text("Done")
    expect(page.locator("#preview")).to_be_hidden()
    picture = page.get_by_role("img", name="lighthouse_00001_.png")
    assert picture.evaluate("i => i.decode().then(() => i.naturalWidth)") == 512
    seconds = page.locator("audio").evaluate(
        """a => new Promise((done) => {
            const tell = () => done(a.duration);
            if (a.readyState) tell(); else a.onloadedmetadata = tell;
        })"""
    )
    assert seconds == pytest.approx(0.512, abs=0.01)
    text = page.locator("figure.text pre")
    expect(text).to_have_text("{'6.text': 'a storm, <b>bold</b>'} 0")
    expect(page.locator("#warnings")).to_have_text("an input was rounded")
    expect(page.locator("#job-facts")).to_contain_text("execution1.8 s")
    page.get_by_text("The job as JSON").click()
    expect(page.locator("#job-json-text")).to_contain_text('"status": "COMPLETED"')
    expect(page.locator("#jobs")).to_contain_text("1 image, 1 audio, 1 file, 1 text")
    job_id = page.locator("#job-id").text_content()
    assert platform.status(str(job_id))["status"] == "COMPLETED"


def test_results_are_downloaded_under_their_names_and_never_run(page: Page) -> None:
    drop_editor_file(page)
    run(page, "x")
    expect(state(page)).to_have_text("Done")
    with page.expect_download() as started:
        page.get_by_role("link", name="page.html").click()
    assert started.value.suggested_filename == "page.html"
    assert Path(started.value.path()).read_bytes() == b"<script>alert(1)</script>"


def test_a_picture_is_shown_large_and_closed_with_the_keyboard(page: Page) -> None:
    drop_editor_file(page)
    run(page, "x")
    page.get_by_title("Show it large").press("Enter")
    expect(page.locator("#lightbox-image")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#lightbox-image")).to_be_hidden()


def test_a_running_job_is_cancelled(page: Page, platform: RunningPlatform) -> None:
    drop_editor_file(page)
    run(page, "slow")
    expect(state(page)).to_have_text("Running")
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(state(page)).to_have_text("Cancelled")
    assert platform.status(str(page.locator("#job-id").text_content()))["status"] == "CANCELLED"
    expect(page.get_by_role("button", name="Run")).to_be_enabled()


def test_an_error_names_its_node_and_leads_to_the_input(page: Page) -> None:
    drop_editor_file(page)
    run(page, "fail")
    expect(page.get_by_role("alert")).to_contain_text("PROMPT_REJECTED: node 3 (KSampler)")
    expect(page.locator("#error-details")).to_be_hidden()  # the error tells it already
    page.get_by_role("button", name="Go to the input").click()
    steps = page.get_by_label("steps")
    expect(steps).to_be_focused()
    expect(steps).to_have_attribute("aria-invalid", "true")


def test_several_errors_are_listed_with_their_nodes(page: Page) -> None:
    drop_editor_file(page)
    run(page, "fail twice")
    expect(page.locator("#error-details li")).to_have_text(
        [
            "Node 3 (KSampler), input steps: is 20, but takes at most 10",
            "Node 9 (LoadImage), input image: photo.png was not sent",
        ]
    )
    page.get_by_role("button", name="Go to the input").click()
    expect(page.get_by_label("steps")).to_be_focused()


def test_jobs_of_the_server_can_be_shown_and_cancelled(
    page: Page, platform: RunningPlatform
) -> None:
    job_id = platform.run({"overrides": {"6.text": "slow"}, "s3Config": {"accessSecret": "s3cret"}})
    row = page.locator("#jobs tr").first
    expect(row).to_contain_text("Running")
    row.get_by_role("button", name="Show").click()
    expect(page.locator("#job-id")).to_have_text(job_id)
    row.get_by_role("button", name="Cancel").click()
    expect(row).to_contain_text("Cancelled")
    expect(state(page)).to_have_text("Cancelled")
    assert "s3cret" not in platform.get("/jobs").text
