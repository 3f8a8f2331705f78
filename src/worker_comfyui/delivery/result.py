"""What a workflow made → the result of its job, within the platform's limit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from worker_comfyui import strict
from worker_comfyui.config import MEGA
from worker_comfyui.delivery.delivery import Delivery
from worker_comfyui.errors import ResultTooLarge
from worker_comfyui.media.output_file import OutputFile


@dataclass(frozen=True, slots=True)
class Made:
    """What a workflow made.

    Attributes:
        files: To deliver, with their copies on this machine.
        texts: `{"node_id", "name"?, "text"}` each.
        warnings: Sentences about what did not go as asked.
        facts: Further fields of the result.
    """

    files: list[OutputFile] = field(default_factory=list)
    texts: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def result_of(made: Made, delivery: Delivery) -> dict[str, Any]:
    """Deliver what was made; its texts count towards the limit of the files.

    Args:
        made: What was made.
        delivery: How its files reach the caller.

    Raises:
        ResultTooLarge: too large to be inline, and there is no bucket; or its texts alone are.
        DeliveryFailed: too large to be inline, and the bucket did not take it.
        DiskFull: there is no space for a converted image.
        JobCancelled, TimedOut: as `stop` says.
    """
    result: dict[str, Any] = dict(made.facts)
    if made.texts:
        result["texts"] = made.texts
    text_bytes = strict.size(strict.clean([result, made.warnings]))
    limit_bytes = delivery.limit_bytes
    if text_bytes > limit_bytes:
        raise ResultTooLarge(
            f"the workflow's texts alone have {text_bytes / MEGA:.1f} MB as JSON, and at most "
            f"{limit_bytes / MEGA:.1f} MB can be returned; a text that is saved as a file can "
            "go to a bucket"
        )
    delivered = replace(delivery, limit_bytes=limit_bytes - text_bytes).deliver(made.files)
    result |= delivered.lists
    if not delivered.lists:  # as the existing worker says it
        result |= {"status": "success_no_images", "images": []}
    if warnings := [*made.warnings, *delivered.warnings]:
        result["errors"] = warnings
    return result


def within(limit_bytes: int | None, answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer without files, if the platform takes one of its size; None: any.

    Raises:
        ResultTooLarge: it does not.
    """
    if limit_bytes is not None and (has := strict.size(strict.clean(answer))) > limit_bytes:
        raise ResultTooLarge(
            f"the answer has {has / MEGA:.1f} MB as JSON, and at most {limit_bytes / MEGA:.1f} MB "
            "can be returned: ask about less at once"
        )
    return answer
