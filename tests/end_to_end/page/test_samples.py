"""The same request in code; the line for curl is run in the whole way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.end_to_end.page.hands import copied, drop_workflow, prompt
from tests.support.platform import RunningPlatform


@pytest.mark.parametrize(
    ("language", "program"), [("Python", sys.executable), ("JavaScript", "node")]
)
def test_the_sample_runs(page: Page, tmp_path: Path, language: str, program: str) -> None:
    drop_workflow(page)
    prompt(page).fill('it\'s "quoted" \\ \u2028')
    page.get_by_text("The same request in code").click()
    page.get_by_text(language, exact=True).click()
    sample = tmp_path / ("sample.py" if language == "Python" else "sample.mjs")
    sample.write_text(copied(page))
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
        drop_workflow(page)
        page.get_by_text("The same request in code").click()
        page.get_by_role("button", name="Copy").click()
        expect(page.locator("#copied")).to_contain_text("Selected")
        assert page.evaluate("String(getSelection())").startswith("curl -sS")
