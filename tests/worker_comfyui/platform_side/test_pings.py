from __future__ import annotations

import logging
from typing import Any

import pytest

from worker_comfyui.platform_side import pings, sdk


def test_pings_go_on_after_an_answer_that_the_sdk_does_not_expect(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[Any] = []

    def send(mirror: Any, *, once: bool) -> None:
        assert not once
        sent.append(mirror)
        if len(sent) == 3:
            raise KeyboardInterrupt
        raise ValueError("Invalid IPv6 URL")  # from a redirect to http://[

    monkeypatch.setattr(sdk, "send_pings", send)
    monkeypatch.setattr(pings, "AGAIN_S", 0.0)
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        pings.loop("mirror")
    assert sent == ["mirror"] * 3
    assert "a ping failed: ValueError: Invalid IPv6 URL" in caplog.text
