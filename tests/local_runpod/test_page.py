"""The page, in a real browser, with a worker that keeps the contract."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import Watched, running_browser, serious_faults
from tests.support.platform import ROOT, RunningPlatform, running_platform

WORKER = [sys.executable, str(Path(__file__).with_name("page_worker.py"))]
PAGE = ROOT / "src" / "local_runpod" / "page"
AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text()

EDITOR_FILE = {
    "version": 0.4,
    "nodes": [{"id": 6, "type": "CLIPTextEncode", "widgets_values": ["a lighthouse at dusk"]}],
    "links": [],
    "definitions": {"subgraphs": [{"id": "x", "nodes": [], "links": []}]},
}
API_FILE = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 32, "batch_size": 1, "color": 255, "seed": 2**64 - 1},
        "_meta": {"title": "Plain"},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}


@pytest.fixture(scope="module")
def platform() -> Iterator[RunningPlatform]:
    with running_platform(WORKER) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
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


def drop(page: Page, selector: str, name: str, content: bytes, kind: str = "") -> None:
    """Drop a file on an element, as a hand does."""
    transfer = page.evaluate_handle(
        """([name, bytes, type]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(bytes)], name, {type}));
            return transfer;
        }""",
        [name, list(content), kind],
    )
    for event in ("dragover", "drop"):
        page.dispatch_event(selector, event, {"dataTransfer": transfer})


def drop_editor_file(page: Page) -> None:
    drop(page, "#workflow-drop", "dusk.json", json.dumps(EDITOR_FILE).encode())
    expect(page.get_by_label("text", exact=True)).to_have_value("a lighthouse at dusk")


def run(page: Page, prompt: str) -> None:
    page.get_by_label("text", exact=True).fill(prompt)
    page.get_by_role("button", name="Run").click()


def state(page: Page) -> Any:
    return page.locator("#job-state")


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


def test_the_curl_line_runs_and_makes_the_same(page: Page, tmp_path: Path) -> None:
    drop_editor_file(page)
    page.get_by_label("text", exact=True).fill('it\'s a $HOME `x` \\ "test"')
    page.get_by_text("The same request in code").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copied")).to_have_text("Copied")
    line = page.evaluate("navigator.clipboard.readText()")
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    job = json.loads(done.stdout)
    assert job["status"] == "COMPLETED"
    expected = {"6.text": 'it\'s a $HOME `x` \\ "test"'}
    assert job["output"]["texts"][0]["text"] == f"{expected} 0"


@pytest.mark.parametrize(
    ("language", "program"), [("Python", sys.executable), ("JavaScript", "node")]
)
def test_the_other_samples_run_too(page: Page, tmp_path: Path, language: str, program: str) -> None:
    drop_editor_file(page)
    page.get_by_label("text", exact=True).fill('it\'s "quoted" \\ \u2028')
    page.get_by_text("The same request in code").click()
    page.get_by_text(language, exact=True).click()
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copied")).to_have_text("Copied")
    sample = tmp_path / ("sample.py" if language == "Python" else "sample.mjs")
    sample.write_text(page.evaluate("navigator.clipboard.readText()"))
    try:
        done = subprocess.run(
            [program, str(sample)], capture_output=True, text=True, timeout=60, check=True
        )
    except FileNotFoundError:
        pytest.skip(f"{program} is not installed")
    assert done.stdout == "COMPLETED\n"


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


def test_jobs_of_the_server_can_be_shown_and_cancelled(
    page: Page, platform: RunningPlatform
) -> None:
    job_id = platform.run({"overrides": {"6.text": "slow"}, "s3Config": {"accessSecret": "s3cret"}})
    row = page.locator("#jobs tr").first
    expect(row).to_contain_text("KSampler")
    row.get_by_role("button", name="Show").click()
    expect(page.locator("#job-id")).to_have_text(job_id)
    row.get_by_role("button", name="Cancel").click()
    expect(row).to_contain_text("Cancelled")
    expect(state(page)).to_have_text("Cancelled")
    assert "s3cret" not in platform.get("/jobs").text


def test_a_key_is_asked_for_and_kept_in_memory_only(browser: Browser) -> None:
    with (
        running_platform(api_keys=("s3cret",)) as keyed,
        browser.new_context() as context,
    ):
        page = context.new_page()
        page.goto(keyed.url)
        expect(page.locator("#health")).to_have_text("needs a key")
        page.get_by_text("Endpoint: This server").click()
        page.get_by_label("API key").fill("s3cret")
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#health")).to_have_text("0 workers starting")
        stores = "[localStorage.length, sessionStorage.length, document.cookie, location.href]"
        assert page.evaluate(stores) == [0, 0, "", f"{keyed.url}/"]


def test_an_endpoint_at_runpod_is_asked_with_its_key(
    browser: Browser, platform: RunningPlatform
) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        asked: list[tuple[str, str | None]] = []

        def answer(route: Any) -> None:
            asked.append((route.request.url, route.request.headers.get("authorization")))
            route.fulfill(json=platform.health(), headers={"Access-Control-Allow-Origin": "*"})

        page.route("https://api.runpod.ai/**", answer)
        page.goto(platform.url)
        page.get_by_text("Endpoint: This server").click()
        page.get_by_label("An endpoint at RunPod").check()
        page.get_by_label("Endpoint id").fill("abc123")
        page.get_by_label("API key").fill("rpa_key")
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#endpoint-name")).to_have_text("abc123")
        expect(page.locator("#jobs-card")).to_be_hidden()
        expect(page.locator("#health")).to_contain_text("1 worker")
        assert asked[-1] == ("https://api.runpod.ai/v2/abc123/health", "Bearer rpa_key")


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


# Looks, and what it is made of

SHOTS = os.environ.get("TEST_SCREENSHOTS")


def looked_at(page: Page, name: str) -> list[Any]:
    """Check what axe-core finds; with TEST_SCREENSHOTS, save a picture there as well."""
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)
    return serious_faults(page, AXE)


def test_where_a_page_may_not_copy_the_sample_is_selected(
    browser: Browser, platform: RunningPlatform
) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.add_init_script("delete Navigator.prototype.clipboard")
        page.goto(platform.url)
        drop_editor_file(page)
        page.get_by_text("The same request in code").click()
        page.get_by_role("button", name="Copy").click()
        expect(page.locator("#copied")).to_contain_text("Selected")
        assert page.evaluate("String(getSelection())").startswith("curl -sS")


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
