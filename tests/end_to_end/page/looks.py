"""Looks at a state of the page in light and dark, on a desk and a phone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Page, ViewportSize

from tests.support.browser import serious_faults

SHOTS = os.environ.get("TEST_SCREENSHOTS")
SIZES: dict[str, ViewportSize] = {
    "desk": {"width": 1280, "height": 900},
    "phone": {"width": 390, "height": 844},
}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@dataclass
class Looks:
    """What was seen of one page.

    Attributes:
        faults: What axe-core finds serious, by the state's name and how it was looked at.
    """

    page: Page
    faults: dict[str, list[Any]] = field(default_factory=dict)

    def at(self, name: str) -> None:
        """Look at a state; with TEST_SCREENSHOTS, save pictures of it there as well."""
        for device, scheme in ((d, s) for d in SIZES for s in SCHEMES):
            with self._seen(device, scheme):
                # A colour is the same on a phone; all else is in the dark.
                rules = {"light": None, "dark": ["color-contrast"]}[scheme]
                found = serious_faults(self.page, rules) if (device, scheme) != PHONE_DARK else []
                wide = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
                if wide > 0:
                    found.append(("wider than the screen", wide))
                if found:
                    self.faults[f"{name}, {device}, {scheme}"] = found
                if SHOTS:
                    path = Path(SHOTS) / f"{name}-{device}-{scheme}.png"
                    self.page.screenshot(path=path, full_page=True)

    @contextmanager
    def _seen(self, device: str, scheme: Literal["light", "dark"]) -> Iterator[None]:
        self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        self.page.set_viewport_size(SIZES[device])
        try:
            yield
        finally:
            self.page.emulate_media(color_scheme="light", reduced_motion="reduce")
            self.page.set_viewport_size(SIZES["desk"])


PHONE_DARK = ("phone", "dark")
