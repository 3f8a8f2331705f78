"""What a list of jobs tells of each: how it stands, and nothing that was sent or came back."""

from __future__ import annotations

from typing import Any

from local_runpod.jobs.job import Job, Status

LONGEST = 300
LISTS = ("images", "videos", "audio", "files", "texts")


def summary(job: Job, queued_at_ms: int) -> dict[str, Any]:
    """Make one entry of `GET /jobs`.

    Args:
        job: The job.
        queued_at_ms: When it was sent, in milliseconds since 1970.

    Returns:
        The fields of `/status` without `output`; of that only, while it runs, how far it is, and
        after that how many files of each kind there are.
    """
    entry = {**job.view(), "queuedAt": queued_at_ms}
    output = entry.pop("output", None)
    if "error" in entry:
        entry["error"] = _cut(entry["error"])
    if not isinstance(output, dict):
        return entry
    if job.status is Status.IN_PROGRESS:
        entry["progress"] = {
            name: _cut(output[name])
            for name in ("percent", "node", "node_id")
            if isinstance(output.get(name), str | int | float)
        }
    elif job.status is Status.COMPLETED:
        # What is stored is asked for, as what would run: nothing of it runs.
        entry["isDryRun"] = output.get("status") == "dry_run" or "workflows" in output
        lists = {name: output.get(name) for name in LISTS}
        counts = {name: len(items) for name, items in lists.items() if isinstance(items, list)}
        if "images" in counts and "videos" in counts:
            counts["images"] -= sum(map(_is_film, output["images"]))
        entry["outputs"] = {name: count for name, count in counts.items() if count}
    return entry


def _is_film(image: Any) -> bool:
    """Tell a film that stands among the images, too: it is counted once."""
    return isinstance(image, dict) and str(image.get("media_type")).startswith("video/")


def _cut(value: Any) -> Any:
    return value if not isinstance(value, str) or len(value) <= LONGEST else f"{value[:LONGEST]}…"
