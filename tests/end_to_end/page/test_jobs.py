"""A job on the page: what its error says, and how it is found again."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.end_to_end.page.hands import API_FILE, drop_workflow, run, state
from tests.support.platform import RunningPlatform
from tests.support.workflows import node

MISSING = {"image": ["1", 0], "text": "", "seed": 0, "steps": 1}


def test_an_error_with_an_input_leads_there_until_it_is_changed(page: Page) -> None:
    workflow = {**API_FILE, "1": node("EmptyImage", width="wide", height=8, batch_size=1, color=0)}
    drop_workflow(page, workflow, says="1 problem, before it runs:")
    page.get_by_role("button", name="Node 1, width").click()
    expect(page.get_by_label("width")).to_be_focused()
    run(page, "x")
    expect(page.get_by_role("alert")).to_contain_text("PROMPT_REJECTED: node 1 (EmptyImage)")
    expect(page.locator("#error-details")).to_be_hidden()  # the error tells it already
    page.get_by_role("button", name="Go to the input").click()
    width = page.get_by_label("width")
    expect(width).to_be_focused()
    expect(width).to_have_attribute("aria-invalid", "true")
    width.fill("48")
    expect(width).not_to_have_attribute("aria-invalid", "true")
    expect(page.locator("#workflow-state")).to_be_empty()
    page.get_by_role("button", name="Run").click()
    expect(state(page)).to_have_text("Done")
    picture = page.locator("#gallery img")
    assert picture.evaluate("i => i.decode().then(() => i.naturalWidth)") == 48


def test_several_errors_are_listed_with_their_nodes(page: Page) -> None:
    painter = node("PagePainter", **MISSING, sampler_name="nothing")
    workflow = {**API_FILE, "1": node("LoadImage", image="photo.png"), "2": painter}
    drop_workflow(page, workflow, says="2 problems, before it runs:")
    run(page, "x")
    details = page.locator("#error-details li")
    expect(details).to_have_count(2)
    expect(details.filter(has_text="Node 1 (LoadImage), input image")).to_have_count(1)
    expect(details.filter(has_text="Node 2 (PagePainter), input sampler_name")).to_have_count(1)
    page.get_by_role("button", name="Go to the input").click()
    expect(page.locator(":focus")).to_have_attribute("aria-invalid", "true")


def test_jobs_of_the_server_can_be_shown_and_cancelled(
    page: Page, platform: RunningPlatform
) -> None:
    slow = {"1": node("TestSleepOutput", seconds=60)}
    job_id = platform.run({"workflow": slow, "comfy_org_api_key": "s3cret-key"})
    row = page.locator("#jobs tr").first
    expect(row).to_contain_text("Running")
    row.get_by_role("button", name="Show").click()
    expect(page.locator("#job-id")).to_have_text(job_id)
    row.get_by_role("button", name="Cancel").click()
    expect(row).to_contain_text("Cancelled")
    expect(state(page)).to_have_text("Cancelled")
    assert "s3cret-key" not in platform.get("/jobs").text


def test_what_only_asks_is_not_among_the_jobs(page: Page, platform: RunningPlatform) -> None:
    drop_workflow(page)
    page.get_by_text("Pick one that is stored").click()
    expect(page.get_by_role("button", name="sdxl")).to_be_visible()
    listed = platform.get("/jobs").json()["jobs"]
    shown = [job for job in listed if not job.get("isDryRun")]
    assert len(listed) >= len(shown) + 2
    expect(page.locator("#jobs tr")).to_have_count(len(shown))
