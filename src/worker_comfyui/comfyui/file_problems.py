"""Inputs of nodes that name a file: not sent, or outside of what belongs to the job. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

from worker_comfyui.comfyui.node_classes import choices_of, inputs_of, upload_group
from worker_comfyui.errors import Detail
from worker_comfyui.job import Workflow
from worker_comfyui.media.media_types import by_name, kind_of
from worker_comfyui.wording import cut, likely, listed

_URL = re.compile(r"https?://|data:", re.IGNORECASE)
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
_OTHER_FOLDER = re.compile(r"\[(output|temp)\]\s*$")
# Choices with such names are models, presets and wildcards.
_NO_INPUT_FILES = frozenset(("application/json", "text/plain", "application/octet-stream"))


def group_of(config: Any, value: str) -> str | None:
    """Name the field of the request in which the file belongs that an input names; None: in none.

    Args:
        config: Of the input.
        value: What it names: custom nodes often list files without saying so.
    """
    if group := upload_group(config):
        return group
    if choices_of(config) is None:
        return None
    media_type = by_name(value.removesuffix("[input]").strip())
    if media_type is None or media_type in _NO_INPUT_FILES:
        return None
    return "images" if kind_of(media_type) == "images" else "files"


def not_sent(received: str, group: str, sent: Collection[str]) -> Detail:
    """Say of a file that is not there how it is sent."""
    if _URL.match(received):
        return _address(received, group)
    if _ABSOLUTE.match(received):
        message = (
            f"names {cut(received)!r}, but a path on another machine is of no use here: send the "
            f'file in `{group}` and name it as it is called there, such as "{_plain(received)}"'
        )
        return {"message": message}
    message = f"there is no input file {cut(received)!r}: send it in `{group}` under this name"
    if close := likely(received, sent):
        message += f"; did you mean {cut(close)!r}, which was sent?"
        return {"did_you_mean": cut(close), "message": message}
    if sent:
        message += f"; sent were {listed(sent)}"
    return {"message": message}


def outside(
    workflow: Workflow, describe: Callable[[str], dict[str, Any] | None], sent: Collection[str]
) -> list[Detail]:
    """Find inputs that name a file outside of what belongs to the job.

    ComfyUI 0.3.64 itself reads `../../x.png`, and `x.png [output]` may be another caller's.
    """
    return [
        {"node_id": cut(node_id), "class_type": cut(str(node["class_type"])), **detail}
        for node_id, node in workflow.items()
        for detail in _outside(node, describe, sent)
    ]


def _outside(
    node: dict[str, Any],
    describe: Callable[[str], dict[str, Any] | None],
    sent: Collection[str],
) -> Iterator[Detail]:
    suspects = {n: v for n, v in node["inputs"].items() if isinstance(v, str) and _leads_out(v)}
    if not suspects:
        return
    configs = dict(inputs_of(describe(node["class_type"]) or {}))
    for name, value in suspects.items():
        choices = choices_of(configs.get(name))
        is_file = upload_group(configs.get(name)) is not None or choices is not None
        if not is_file or value in sent or (choices and value in choices):
            continue
        group = upload_group(configs.get(name)) or "files"
        if _OTHER_FOLDER.search(value):
            message = (
                f"names {cut(value)!r}, but ComfyUI's output and temp folders are empty when a job "
                f"begins: send the file in `{group}`"
            )
            yield {"input": cut(name), "received": cut(value), "message": message}
        else:
            yield {"input": cut(name), "received": cut(value), **not_sent(value, group, sent)}


def _leads_out(value: str) -> bool:
    if _URL.match(value):
        return False  # no path: ComfyUI refuses it, and it is explained then
    parts = value.replace("\\", "/").split("/")
    return ".." in parts or bool(_ABSOLUTE.match(value) or _OTHER_FOLDER.search(value))


def _address(received: str, group: str) -> Detail:
    field, name = ("image", "input.png") if group == "images" else ("data", "input.bin")
    shown = cut(received.partition("?")[0], limit=80)
    message = (
        "takes the name of a file, not its address or content: send "
        f'"{group}": [{{"name": "{name}", "{field}": "{shown}"}}] and name "{name}" here'
    )
    return {"message": message}


def _plain(received: str) -> str:
    return cut(re.split(r"[/\\]", received.rstrip("/\\"))[-1], limit=80)
