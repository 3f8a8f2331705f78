"""What tests of downloads share: how to fetch from the stand-in hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.hub import Hub
from worker_comfyui.models.transfer.fetch import fetch
from worker_comfyui.models.transfer.progress import Progress
from worker_comfyui.models.transfer.rules import Rules, Tokens
from worker_comfyui.models.transfer.sources import source
from worker_comfyui.models.transfer.terms import Caller, Fetched, Means, Wanted

QUICK = (0.01, 0.01, 0.01)
"""Pauses between attempts; there are four of them in all."""
PIECE = 1 << 16


def at_civitai(hub: Hub) -> str:
    """Return the stand-in's address as Civitai: another host, so that tokens are told apart."""
    return hub.url.replace("127.0.0.1", "localhost")


def rules(hub: Hub, **changes: Any) -> Rules:
    """Let the stand-in be both hub and Civitai, and trust its address."""
    return Rules(
        **{
            "hub": hub.url,
            "civitai": at_civitai(hub),
            "trusted": frozenset({"127.0.0.1", "localhost"}),
            **changes,
        }
    )


def means(hub: Hub, tokens: Tokens | None = None, **changes: Any) -> Means:
    return Means(
        **{
            "rules": rules(hub, tokens=tokens or Tokens()),
            "pauses_s": QUICK,
            "piece_bytes": PIECE,
            **changes,
        }
    )


def caller(
    tick: Callable[[], None] = lambda: None, report: Callable[[Progress], None] = lambda _: None
) -> Caller:
    return Caller(tick, report)


def wanted(hub: Hub, text: str, name: str = "model.safetensors", **more: Any) -> Wanted:
    return Wanted(source=source(text, hub.url, at_civitai(hub)), name=name, **more)


def get(hub: Hub, staging: Path, text: str, **more: Any) -> Fetched:
    return fetch(wanted(hub, text, **more), staging, means(hub), caller())
