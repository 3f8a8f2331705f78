"""What comes into the page, and what it sends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.page.hands import EDITOR_FILE, drop, drop_editor_file, state
from tests.support.platform import RunningPlatform

API_FILE = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 32, "batch_size": 1, "color": 255, "seed": 2**64 - 1},
        "_meta": {"title": "Plain"},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}


def test_only_what_was_changed_is_sent(page: Page) -> None:
    """And whole numbers stay whole: this seed is larger than JavaScript's numbers."""
    drop_editor_file(page)
    seed = page.get_by_label("seed", exact=True)
    expect(seed).to_have_value("9223372036854775809")
    seed.fill("18446744073709551615")
    page.get_by_text("1 more input").click()
    page.get_by_label("sampler name").select_option("uni_pc")
    drop(page, "#inputs .drop", "cat.png", b"\x89PNG", "image/png")
    expect(page.locator("#inputs .drop")).to_contain_text("cat.png (4 bytes)")
    with page.expect_request("**/run") as sent:
        page.get_by_role("button", name="Run").click()
    body = json.loads(sent.value.post_data or "")
    assert body["input"] == {
        "workflow": EDITOR_FILE,
        "overrides": {
            "3.seed": 18446744073709551615,
            "3.sampler_name": "uni_pc",
            "9.image": "cat.png",
        },
        "images": [{"name": "cat.png", "image": "iVBORw=="}],
        "output": {"live": True},
    }
    expect(state(page)).to_have_text("Done")


def test_the_rest_of_a_request_is_kept(page: Page) -> None:
    whole = {
        "input": {"workflow": EDITOR_FILE, "timeout_s": 60, "overrides": {"9.x": 1}},
        "policy": {"ttl": 60_000},
    }
    with page.expect_request("**/runsync*") as looked:
        drop(page, "#workflow-drop", "request.json", json.dumps(whole).encode())
    assert "policy" not in json.loads(looked.value.post_data or "")
    page.get_by_label("text", exact=True).fill("new")
    with page.expect_request("**/run") as sent:
        page.get_by_role("button", name="Run").click()
    body = json.loads(sent.value.post_data or "")
    assert body["policy"] == {"ttl": 60_000}
    assert body["input"]["timeout_s"] == 60
    assert body["input"]["overrides"] == {"9.x": 1, "6.text": "new"}
    expect(state(page)).to_have_text("Done")


def test_a_number_out_of_range_is_not_sent(page: Page) -> None:
    drop_editor_file(page)
    for wrong in ("0", "1.5", "x", "101"):
        page.get_by_label("steps").fill(wrong)
        page.get_by_role("button", name="Run").click()
        expect(page.get_by_label("steps")).to_be_focused()
    expect(page.locator("#job-panel")).to_be_hidden()


def test_a_new_seed_is_drawn_for_each_run(page: Page) -> None:
    drop_editor_file(page)
    page.get_by_label("new for each run").check()
    before = page.get_by_label("seed", exact=True).input_value()
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_label("seed", exact=True)).not_to_have_value(before)


def test_a_picture_with_a_workflow_is_sent_as_it_is(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "made.png")
    with page.expect_request("**/runsync*") as sent:
        page.locator("#workflow-file").set_input_files(tmp_path / "made.png")
    body = json.loads(sent.value.post_data or "")
    assert body["input"]["workflow"].startswith("data:image/png;base64,iVBOR")
    assert body["input"]["dry_run"] is True
    expect(page.locator("#workflow-name")).to_have_text("made.png")
    expect(page.get_by_label("text", exact=True)).to_be_visible()


def test_a_stored_workflow_is_opened_by_its_name(page: Page) -> None:
    name = page.get_by_label("Stored on the worker")
    name.fill("unknown")
    name.press("Enter")
    expect(page.locator("#workflow-state")).to_contain_text("no workflow is stored under `unknown`")
    expect(page.locator("#workflow-problems")).to_have_text("the stored ones are: sunset")
    name.fill("sunset")
    name.press("Enter")
    expect(page.get_by_label("text", exact=True)).to_have_value("a lighthouse at dusk")


@pytest.mark.parametrize(
    ("content", "reason"), [(b"{", "is not JSON"), (b"[]", "must hold a JSON object")]
)
def test_a_file_that_is_none_is_explained(page: Page, content: bytes, reason: str) -> None:
    drop(page, "#workflow-drop", "odd.json", content)
    expect(page.locator("#workflow-state")).to_contain_text(f"odd.json {reason}")


def test_without_a_dry_run_the_form_is_made_of_the_workflows_plain_values(
    browser: Browser, platform: RunningPlatform
) -> None:
    """A worker that knows no dry run refuses it: `output.live` is a field that it does not know."""
    refusal = {"id": "x", "status": "FAILED", "error": "INVALID_REQUEST: output.live: is unknown"}
    with browser.new_context() as context:
        page = context.new_page()
        page.route("**/runsync?*", lambda route: route.fulfill(json=refusal))
        page.goto(platform.url)
        drop(page, "#workflow-drop", "api.json", json.dumps(API_FILE).encode())
        expect(page.locator("#workflow-state")).to_be_empty()
        expect(page.get_by_label("seed", exact=True)).to_have_value(str(2**64 - 1))
        page.get_by_label("width").fill("128")
        with page.expect_request("**/run") as sent:
            page.get_by_role("button", name="Run").click()
        changed = json.loads(json.dumps(API_FILE))
        changed["1"]["inputs"]["width"] = 128
        assert json.loads(sent.value.post_data or "") == {"input": {"workflow": changed}}
