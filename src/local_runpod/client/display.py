"""What people see in a terminal: progress, results, timings."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from local_runpod.client import picture
from local_runpod.client.outputs import Saved

BAR_WIDTH = 24
TERMINAL_WIDTH = 79


def say(text: str = "") -> None:
    """Print a line for the person who waits."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def short_path(path: Path) -> str:
    """A path as seen from the current folder, where that is shorter."""
    return min(os.path.relpath(path), str(path), key=len)


class ProgressLine:
    """Shows a job's state: one line that changes on a terminal, else a line for each change."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._live = self._stream.isatty()
        self._began = time.monotonic()
        self._last = ""

    def update(self, job: Mapping[str, Any]) -> None:
        """Show the answer of `/status`."""
        if job.get("status") == "IN_QUEUE":
            self._show("waiting for a worker", "waiting for a worker")
        elif job.get("status") == "IN_PROGRESS":
            progress = job.get("output")
            percent, what = _progress(progress if isinstance(progress, dict) else {})
            filled = round(percent / 100 * BAR_WIDTH)
            bar = "█" * filled + "░" * (BAR_WIDTH - filled)
            self._show(f"{bar} {percent:3d} %  {what}", f"{what} {percent // 25}")

    def close(self) -> None:
        """Leave the line."""
        if self._live and self._last:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
        self._last = ""

    def _show(self, line: str, key: str) -> None:
        if self._live:
            elapsed = f"{time.monotonic() - self._began:5.1f} s  "
            self._stream.write(f"\r\x1b[K{(elapsed + line)[:TERMINAL_WIDTH]}")
        elif key != self._last:
            self._stream.write(f"{line}\n")
        self._last = key
        self._stream.flush()


def _progress(progress: Mapping[str, Any]) -> tuple[int, str]:
    """Percent and what is being done; whatever is missing or odd is left out."""
    value = progress.get("percent")
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else 0
    percent = int(min(max(number, 0), 100))
    node = progress.get("node") if isinstance(progress.get("node"), str) else None
    node_id = progress.get("node_id")
    where = f"{node} (node {node_id})" if node and node_id is not None else node
    message = progress.get("message") if isinstance(progress.get("message"), str) else None
    return percent, where or message or "running"


def describe_saved(saved: list[Saved]) -> None:
    """List the files."""
    for file in saved:
        say(f"  {short_path(file.path)}  ({_size(file.bytes)})")


def show_picture(saved: Sequence[Saved], stream: TextIO | None = None) -> None:
    """Draw the first picture among the files, on a terminal that has colours."""
    stream = stream or sys.stdout
    paint = picture.palette_of(os.environ) if stream.isatty() else None
    if paint is None:
        return
    for file in saved:
        with suppress(ValueError):
            stream.writelines(f"{line}\n" for line in picture.draw(file.path, paint))
            return


def describe_timings(job: Mapping[str, Any], total_s: float) -> None:
    """Print how long the job waited, how long it ran, and what the worker measured."""
    parts = [f"total {total_s:.1f} s"]
    for name, label in (("delayTime", "in the queue"), ("executionTime", "on the worker")):
        if isinstance(job.get(name), int | float):
            parts.append(f"{label} {job[name] / 1000:.1f} s")
    say("Time: " + ", ".join(parts))
    output = job.get("output")
    timings = output.get("timings") if isinstance(output, dict) else None
    if isinstance(timings, dict):
        shown = [_timing(k, v) for k, v in timings.items() if isinstance(v, int | float)]
        if shown:
            say("      " + ", ".join(shown))


def _timing(name: str, value: float) -> str:
    """`execution_ms` and 234 are "execution 0.2 s"."""
    for suffix, factor in (("_ms", 1000), ("_s", 1)):
        if name.endswith(suffix):
            return f"{name.removesuffix(suffix).replace('_', ' ')} {value / factor:.1f} s"
    return f"{name} {value:g}"


def describe_failure(job: Mapping[str, Any]) -> None:
    """Print why a job did not succeed."""
    say(f"The job is {job.get('status')}: {job.get('error') or 'no reason was given'}")
    output = job.get("output")
    if not isinstance(output, dict):
        return
    details = output.get("details")
    lines = [_detail(detail) for detail in details] if isinstance(details, list) else []
    for line in lines if len(lines) > 1 else []:  # the error tells a single one already
        say(f"  - {line}")
    if output.get("retryable") is True:
        say("The same request may succeed when it is sent again.")


def _detail(detail: Any) -> str:
    """`{"node_id": "2", "input": "width", "message": ...}` is "node 2, input width: ..."."""
    if not isinstance(detail, dict) or "message" not in detail:
        return str(detail)
    labels = {"path": "", "node_id": "node ", "input": "input "}
    where = [f"{label}{detail[name]}" for name, label in labels.items() if detail.get(name)]
    return ": ".join([", ".join(where), str(detail["message"])] if where else [detail["message"]])


def _size(count: int) -> str:
    for unit, factor in (("MB", 1_000_000), ("kB", 1000)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"
