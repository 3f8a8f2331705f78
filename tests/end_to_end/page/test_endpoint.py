"""Which endpoint the page asks, and with what key."""

from __future__ import annotations

from playwright.sync_api import Browser, Route, expect

from local_runpod.gateway.gateway import CORS
from tests.end_to_end.page.hands import drop_workflow, run, state
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


def test_an_endpoint_at_runpod_runs_a_workflow_with_a_key_of_this_tab_alone(
    browser: Browser, platform: RunningPlatform
) -> None:
    """RunPod's address is answered by a platform that asks for a key, as the hosted one does."""
    asked: list[tuple[str, str | None]] = []

    def answer(route: Route) -> None:
        request = route.request
        asked.append((request.url, request.headers.get("authorization")))
        there = request.url.replace("https://api.runpod.ai", platform.url)
        headers = {"authorization": request.headers.get("authorization", "")}
        if request.post_data:
            headers["content-type"] = "application/json"
        answered = route.fetch(url=there, headers=headers)
        route.fulfill(response=answered, headers={**answered.headers, **CORS})

    with browser.new_context() as context:
        page = context.new_page()
        page.route("https://api.runpod.ai/**", answer)
        page.goto(platform.url)
        page.get_by_text("Endpoint: This server").click()
        page.get_by_label("An endpoint at RunPod").check()
        page.get_by_label("Endpoint id").fill("abc123")
        page.get_by_label("API key").fill("rpa_key")
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#endpoint-name")).to_have_text("abc123")
        expect(page.locator("#jobs-card")).to_be_hidden()
        page.get_by_text("Pick one that is stored").click()
        expect(page.get_by_role("button", name="editor/frame")).to_be_visible()
        drop_workflow(page)
        run(page, "a storm", steps=25)
        expect(page.locator("#preview")).to_be_visible()
        expect(state(page)).to_have_text("Done")
        expect(page.get_by_role("img", name="sea_00001_.png")).to_be_visible()
        page.get_by_text("The same request in code").click()
        expect(page.locator("#sample")).to_contain_text("https://api.runpod.ai/v2/abc123/runsync")
        expect(page.locator("#sample")).to_contain_text("Bearer $RUNPOD_API_KEY")
        assert "rpa_key" not in page.content()
        stores = "[localStorage.length, sessionStorage.length, document.cookie, location.href]"
        assert page.evaluate(stores) == [0, 0, "", f"{platform.url}/"]
        page.reload()
        expect(page.locator("#endpoint-name")).to_have_text("This server")
        expect(page.get_by_label("API key")).to_have_value("")
    paths = {url.removeprefix("https://api.runpod.ai/v2/abc123/").split("/")[0] for url, _ in asked}
    assert paths == {"health", "run", "runsync?wait=5000", "status"}
    assert {key for _, key in asked} == {"Bearer rpa_key"}
