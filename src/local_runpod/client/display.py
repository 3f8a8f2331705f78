"""What people read in a terminal: results, timings, failures."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from local_runpod.client import picture
from local_runpod.client.outputs import Saved
from local_runpod.terminal import plain, plain_line

LONGEST_VALUE = 60


def say(text: str = "", stream: TextIO | None = None) -> None:
    """Print lines for the person who waits; nothing in them steers the terminal."""
    stream = stream or sys.stdout
    stream.write(f"{plain(text)}\n")
    stream.flush()


def note(text: str) -> None:
    """Print what must stay out of standard output, since a program reads that."""
    say(text, sys.stderr)


def short_path(path: Path) -> str:
    """A path as seen from the current folder, where that is shorter."""
    return min(os.path.relpath(path), str(path), key=len)


def describe_saved(saved: list[Saved]) -> None:
    """List the files."""
    for file in saved:
        say(f"  {short_path(file.path)}  ({_size(file.bytes)})")


def describe_fetched(output: Any) -> None:
    """Name the models that were fetched for the job."""
    for model in _dicts(output.get("models") if isinstance(output, dict) else None):
        if model.get("from") == "fetched" and isinstance(model.get("bytes"), int):
            where = f"{model.get('folder')}/{model.get('name')}"
            say(plain_line(f"Fetched {where}  ({_size(model['bytes'])})"))


def show_picture(saved: Sequence[Saved], stream: TextIO | None = None) -> None:
    """Draw the first picture among the files, on a terminal that has colours."""
    console = Console(file=stream or sys.stdout)
    if not picture.can_show(console):
        return
    for file in saved:
        with suppress(ValueError):
            console.print(picture.drawn(file.path), end="")
            return


def describe_timings(job: Mapping[str, Any], total_s: float) -> None:
    """Print how long the job waited, how long it ran, and what the worker measured."""
    # Who follows a job with --job may come late.
    known_s = sum(
        job[name] / 1000
        for name in ("delayTime", "executionTime")
        if isinstance(job.get(name), int | float)
    )
    parts = [f"total {_duration(max(total_s, known_s))}"]
    for name, label in (("delayTime", "in the queue"), ("executionTime", "on the worker")):
        if isinstance(job.get(name), int | float):
            parts.append(f"{label} {_duration(job[name] / 1000)}")
    say("Time: " + ", ".join(parts))
    output = job.get("output")
    timings = output.get("timings") if isinstance(output, dict) else None
    if isinstance(timings, dict):
        shown = [_timing(k, v) for k, v in timings.items() if isinstance(v, int | float)]
        if shown:
            say("      " + ", ".join(shown))


def describe_dry_run(output: Mapping[str, Any]) -> bool:
    """Print what a dry run found: the inputs as `--set` takes them, and what is wrong.

    Returns:
        Whether the workflow would run.
    """
    for entry in _dicts(output.get("inputs")):
        value = json.dumps(entry.get("value"), ensure_ascii=False)
        cut = value if len(value) <= LONGEST_VALUE else f"{value[: LONGEST_VALUE - 1]}…"
        name = f"{entry.get('node_id')}.{entry.get('input')}"
        say(plain_line(f"  {name}={cut}  {entry.get('title') or entry.get('class_type')}"))
    for model in _dicts(output.get("models")):
        state = model.get("status") or ("here" if model.get("present") else "not here")
        say(plain_line(f"  model {model.get('name')}: {state}"))
    problems = output.get("problems")
    problems = problems if isinstance(problems, list) else []
    for problem in problems:
        say(f"  - {_detail(problem)}")
    say("It would not run as it is." if problems else "It would run.")
    return not problems


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


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _duration(seconds: float) -> str:
    """Seconds; milliseconds where seconds would say too little."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _timing(name: str, value: float) -> str:
    """`execution_ms` and 234 are "execution 234 ms"."""
    for suffix, factor in (("_ms", 1000), ("_s", 1)):
        if name.endswith(suffix):
            return f"{name.removesuffix(suffix).replace('_', ' ')} {_duration(value / factor)}"
    return f"{name} {value:g}"


def _detail(detail: Any) -> str:
    """Where it is, then the message: "node 2 (EmptyImage), input width: is 'wide' ..."."""
    if not isinstance(detail, dict) or "message" not in detail:
        return str(detail)
    labels = {"path": "", "node_id": "node ", "input": "input "}
    where = [f"{label}{detail[name]}" for name, label in labels.items() if detail.get(name)]
    if detail.get("node_id") and isinstance(detail.get("class_type"), str):
        node = f"node {detail['node_id']}"
        where[where.index(node)] = f"{node} ({detail['class_type']})"
    return ": ".join([", ".join(where), str(detail["message"])] if where else [detail["message"]])


def _size(count: int) -> str:
    for unit, factor in (("MB", 1_000_000), ("kB", 1000)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"
