"""Shows a job that runs: a line with a preview that change in a terminal, elsewhere plain lines."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Mapping
from typing import Any, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.segment import Segments
from rich.text import Text

from local_runpod.client import picture
from local_runpod.terminal import plain_line

BAR_WIDTH = 24
LARGEST_PREVIEW = 200_000  # characters of base64; the worker sends at most a fifth of that


class JobProgress:
    """A context in which `update` shows a job's state."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._console = Console(file=self._stream, highlight=False, markup=False, emoji=False)
        self._began = time.monotonic()
        self._line = ""
        self._last_key = ""
        self._preview: Segments | None = None
        self._named: set[str] = set()
        self._live: Live | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(
                console=self._console,
                transient=True,
                refresh_per_second=2,  # a drawn preview is some 40 kB
                get_renderable=self._render,
                redirect_stdout=stream is None,  # what others print appears above the line
                redirect_stderr=False,
            )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, job: Mapping[str, Any]) -> None:
        """Show the answer of `/status`."""
        if job.get("status") == "IN_QUEUE":
            self._show("waiting for a worker", "waiting for a worker")
        elif job.get("status") == "IN_PROGRESS":
            output = job.get("output")
            progress = output if isinstance(output, dict) else {}
            percent, what = _percent_and_what(progress)
            filled = round(percent / 100 * BAR_WIDTH)
            bar = "█" * filled + "░" * (BAR_WIDTH - filled)
            self._name_files(progress.get("files"))
            self._take_preview(progress.get("preview"))
            self._show(f"{bar} {percent:3d} %  {what}", f"{what} {percent // 25}")

    def _show(self, line: str, key: str) -> None:
        self._line = line
        if self._live:
            self._live.refresh()
        elif key != self._last_key:
            self._print(line)
        self._last_key = key

    def _render(self) -> RenderableType:
        elapsed = f"{time.monotonic() - self._began:5.1f} s  "
        line = Text(elapsed + self._line, no_wrap=True, overflow="ellipsis")
        return Group(line, self._preview) if self._preview and self._line else line

    def _name_files(self, names: Any) -> None:
        for name in names if isinstance(names, list) else []:
            if isinstance(name, str) and name not in self._named:
                self._named.add(name)
                self._print(f"made {plain_line(name)}")

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def _take_preview(self, preview: Any) -> None:
        """Keep the newest preview that can be drawn here; an odd one is not worth a word."""
        data = preview.get("data") if isinstance(preview, dict) else None
        if not self._live or not picture.can_show(self._console) or not isinstance(data, str):
            return
        if len(data) > LARGEST_PREVIEW:
            return
        columns = min(picture.COLUMNS, self._console.width)
        rows = min(picture.ROWS, self._console.height - 2)
        if columns > 0 and rows > 0:
            try:
                self._preview = picture.drawn(base64.b64decode(data), columns, rows)
            except ValueError:
                return


def _percent_and_what(progress: Mapping[str, Any]) -> tuple[int, str]:
    """Percent and what is being done; whatever is missing or odd is left out."""
    value = progress.get("percent")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    percent = round(min(max(value, 0), 100)) if is_number and value is not None else 0
    node, node_id = progress.get("node"), progress.get("node_id")
    where = f"{node} (node {node_id})" if isinstance(node, str) and node_id else node
    message = progress.get("message")
    what = next((text for text in (where, message) if isinstance(text, str)), "running")
    return percent, plain_line(what)
