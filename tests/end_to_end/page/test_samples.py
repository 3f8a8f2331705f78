"""The same request in code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.page.hands import drop_editor_file
from tests.support.platform import RunningPlatform


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
