"""What comes inline and what goes to the bucket: the result must stay below the platform's limit.

What does not fit goes to the bucket, the largest first; what the bucket does not take comes inline,
if it fits. Nothing is dropped: what can go neither way is an error.
"""

from __future__ import annotations

from collections.abc import Sequence

from worker_comfyui.delivery.items import inline_bytes, linked_bytes, megabytes, size
from worker_comfyui.media.output_file import OutputFile

MAX_NAMED = 5


def overflow(files: Sequence[OutputFile], limit_bytes: int) -> list[OutputFile]:
    """Choose what has to go to the bucket so that the rest fits: the largest first."""
    total = size(files)
    chosen = []
    inline = [file for file in files if file.url is None]
    # So the fewest files have to leave.
    for file in sorted(inline, key=inline_bytes, reverse=True):
        if total <= limit_bytes:
            break
        total -= inline_bytes(file) - linked_bytes(file)
        chosen.append(file)
    return chosen


def moved(file: OutputFile, limit_bytes: int) -> str:
    """Say that a file went to the bucket, though it was to come inline."""
    return (
        f"{file.name} ({megabytes(file.bytes)}) went to the bucket, since the result would "
        f"be above {megabytes(limit_bytes)}"
    )


def too_large(files: Sequence[OutputFile], limit_bytes: int) -> str:
    """Say how large the result would be, and by which files."""
    largest = sorted((f for f in files if f.url is None), key=lambda f: f.bytes, reverse=True)
    names = ", ".join(f"{file.name} {megabytes(file.bytes)}" for file in largest[:MAX_NAMED])
    more = f" and {len(largest) - MAX_NAMED} more" if len(largest) > MAX_NAMED else ""
    return (
        f"The result would have {megabytes(size(files))} as JSON, and at most "
        f"{megabytes(limit_bytes)} can be returned ({names}{more})."
    )
