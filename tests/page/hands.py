"""What a person does on the page."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Page, expect

EDITOR_FILE = {
    "version": 0.4,
    "nodes": [{"id": 6, "type": "CLIPTextEncode", "widgets_values": ["a lighthouse at dusk"]}],
    "links": [],
    "definitions": {"subgraphs": [{"id": "x", "nodes": [], "links": []}]},
}


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
