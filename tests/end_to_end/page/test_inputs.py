"""What comes into the page, and what it sends."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Browser, Page, expect

from tests.end_to_end.page.hands import (
    API_FILE,
    EDITOR_FILE,
    SEED,
    TEXT,
    drop,
    drop_workflow,
    photo,
    prompt,
    state,
)
from tests.support.platform import RunningPlatform


def test_only_what_was_changed_is_sent(page: Page) -> None:
    """And whole numbers stay whole: this seed is larger than JavaScript's numbers."""
    drop_workflow(page, EDITOR_FILE, says="1 problem, before it runs:")
    seed = page.get_by_label("seed", exact=True)
    expect(seed).to_have_value(str(SEED))
    seed.fill("18446744073709551615")
    page.get_by_text("2 more inputs").click()
    page.get_by_label("sampler name").select_option("uni_pc")
    drop(page, "#inputs .drop", "cat.png", photo(), "image/png")
    expect(page.locator("#inputs .drop")).to_contain_text("cat.png (1 kB)")
    with page.expect_request("**/run") as sent:
        page.get_by_role("button", name="Run").click()
    body = json.loads(sent.value.post_data or "")
    assert body["input"] == {
        "workflow": EDITOR_FILE,
        "overrides": {
            "2:11.seed": 18446744073709551615,
            "2:11.sampler_name": "uni_pc",
            "1.image": "cat.png",
        },
        "images": [{"name": "cat.png", "image": base64.b64encode(photo()).decode()}],
        "output": {"live": True},
    }
    expect(state(page)).to_have_text("Done")


def test_the_rest_of_a_request_is_kept(page: Page) -> None:
    whole = {
        "input": {"workflow": API_FILE, "timeout_s": 60, "overrides": {"1.width": 64}},
        "policy": {"ttl": 60_000},
    }
    with page.expect_request("**/runsync*") as looked:
        drop_workflow(page, whole)
    assert "policy" not in json.loads(looked.value.post_data or "")
    expect(page.get_by_label("width")).to_have_value("64")
    prompt(page).fill("new")
    with page.expect_request("**/run") as sent:
        page.get_by_role("button", name="Run").click()
    body = json.loads(sent.value.post_data or "")
    assert body["policy"] == {"ttl": 60_000}
    assert body["input"]["timeout_s"] == 60
    assert body["input"]["overrides"] == {"1.width": 64, "2.text": "new"}
    expect(state(page)).to_have_text("Done")


def test_a_number_out_of_range_is_not_sent(page: Page) -> None:
    drop_workflow(page)
    for wrong in ("0", "1.5", "x", "1001"):
        page.get_by_label("steps").fill(wrong)
        page.get_by_role("button", name="Run").click()
        expect(page.get_by_label("steps")).to_be_focused()
    expect(page.locator("#job-panel")).to_be_hidden()


def test_a_new_seed_is_drawn_for_each_run(page: Page) -> None:
    drop_workflow(page)
    page.get_by_label("new for each run").check()
    before = page.get_by_label("seed", exact=True).input_value()
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_label("seed", exact=True)).not_to_have_value(before)


def test_a_picture_with_a_workflow_is_sent_as_it_is(page: Page, tmp_path: Path) -> None:
    saved = PngInfo()
    saved.add_text("prompt", json.dumps(API_FILE))
    Image.new("RGB", (4, 4)).save(tmp_path / "made.png", pnginfo=saved)
    with page.expect_request("**/runsync*") as sent:
        page.locator("#workflow-file").set_input_files(tmp_path / "made.png")
    body = json.loads(sent.value.post_data or "")
    assert body["input"]["workflow"].startswith("data:image/png;base64,iVBOR")
    assert body["input"]["dry_run"] is True
    expect(page.locator("#workflow-name")).to_have_text("made.png")
    expect(prompt(page)).to_have_value(TEXT)


def test_a_picture_without_one_is_explained(page: Page, tmp_path: Path) -> None:
    (tmp_path / "bare.png").write_bytes(photo())
    page.locator("#workflow-file").set_input_files(tmp_path / "bare.png")
    expect(page.locator("#workflow-state")).to_contain_text("INVALID_REQUEST")
    expect(page.locator("#workflow-state")).to_contain_text("PNG file without a workflow")


def test_a_stored_workflow_is_picked_from_a_list(page: Page) -> None:
    page.get_by_text("Pick one that is stored").click()
    names = page.locator("#stored-names button")
    expect(names.filter(has_text="editor/frame")).to_be_visible()
    page.get_by_label("Filter").fill("FRAME")
    expect(names.locator("visible=true")).to_have_text(["editor/frame"])
    page.get_by_label("Filter").fill("nothing like it")
    expect(page.locator("#stored-state")).to_have_text("No name has this in it.")
    page.get_by_label("Filter").fill("frame")
    names.filter(has_text="editor/frame").press("Enter")
    expect(page.locator("#stored summary")).to_be_focused()
    expect(page.locator("#stored-names")).to_be_hidden()
    expect(page.locator("#workflow-name")).to_have_text("editor/frame")
    expect(page.get_by_role("group", name="EmptyImage")).to_be_visible()
    page.get_by_role("button", name="Run").click()
    expect(state(page)).to_have_text("Done")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"status": "COMPLETED", "output": {"workflows": {"folders": ["/w"], "names": []}}},
            "None are stored. The worker looks for JSON files in /w.",
        ),
        (
            {"status": "FAILED", "error": "'workflow' is missing"},
            "This worker does not tell what it has stored: 'workflow' is missing",
        ),
    ],
)
def test_a_worker_without_stored_workflows_says_so(
    browser: Browser, platform: RunningPlatform, answer: dict[str, Any], said: str
) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.route("**/runsync?*", lambda route: route.fulfill(json={"id": "x", **answer}))
        page.goto(platform.url)
        page.get_by_text("Pick one that is stored").click()
        expect(page.locator("#stored-state")).to_have_text(said)


def test_the_example_runs(page: Page) -> None:
    page.get_by_role("button", name="Try an example").click()
    expect(page.locator("#workflow-name")).to_have_text("example.json")
    expect(page.locator("#workflow-state")).to_be_empty()
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("img", name="example_00001_.png")).to_be_visible()


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
        expect(page.get_by_label("seed", exact=True)).to_have_value(str(SEED))
        page.get_by_label("width").fill("128")
        with page.expect_request("**/run") as sent:
            page.get_by_role("button", name="Run").click()
        changed = json.loads(json.dumps(API_FILE))
        changed["1"]["inputs"]["width"] = 128
        assert json.loads(sent.value.post_data or "") == {"input": {"workflow": changed}}
