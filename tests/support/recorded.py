"""What a real ComfyUI 0.3.64 answered: the transcripts in test_resources/comfyui/."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).resolve().parents[2] / "test_resources" / "comfyui"
SCENARIOS = sorted(path.stem for path in (RECORDED / "transcripts").glob("*.json"))


@dataclass(frozen=True)
class Transcript:
    """One scenario.

    Attributes:
        http: Exchanges: `{"request": {"method", "path", "body"}, "response": {"status", "body"}}`.
        frames: All websocket frames, as a client receives them.
    """

    http: list[dict[str, Any]]
    frames: list[str | bytes]

    def answers(self, method: str, path: str) -> list[tuple[Any, Any]]:
        """The bodies sent and received on all paths that begin like this."""
        return [
            (exchange["request"]["body"], exchange["response"]["body"])
            for exchange in self.http
            if exchange["request"]["method"] == method
            and exchange["request"]["path"].startswith(path)
        ]

    def entries(self) -> dict[str, dict[str, Any]]:
        """All history entries, by prompt id."""
        found: dict[str, dict[str, Any]] = {}
        for _, body in self.answers("GET", "/history"):
            found |= body
        return found


@cache
def transcript(scenario: str) -> Transcript:
    """Read one scenario."""
    record = json.loads((RECORDED / "transcripts" / f"{scenario}.json").read_text())
    frames = [_frame(frame) for frame in record["websocket"] if {"json", "binary"} & frame.keys()]
    return Transcript(record["http"], frames)


def _frame(frame: dict[str, Any]) -> str | bytes:
    if "json" in frame:
        return json.dumps(frame["json"])
    recorded = frame["binary"].get("base64") or ""
    return base64.b64decode(recorded.removesuffix("...cut"))  # a long frame's beginning
