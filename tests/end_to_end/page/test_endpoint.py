"""Which endpoint the page asks, and with what key."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Browser, expect

from tests.support.platform import RunningPlatform, running_platform


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
