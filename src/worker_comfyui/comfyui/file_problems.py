"""Inputs of nodes that name a file: not sent, or outside of what belongs to the job. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import PurePosixPath
from typing import Any

from worker_comfyui.comfyui.node_classes import choices_of, inputs_of, takes_file, upload_group
from worker_comfyui.errors import Detail
from worker_comfyui.job import Workflow, is_link, texts_in
from worker_comfyui.media.media_types import by_name, kind_of
from worker_comfyui.volume.layout import WEIGHTS
from worker_comfyui.wording import cut, likely, listed

_URL = re.compile(r"https?://|data:", re.IGNORECASE)
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
_FOLDER = re.compile(r"\s*\[(input|output|temp)\]\s*$")
_MODELS = WEIGHTS | {".gguf", ".onnx"}
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
    media_type = by_name(_without_folder(value))
    if media_type is None or media_type in _NO_INPUT_FILES:
        return None
    return _group_of_kind(media_type)


def not_sent(received: str, group: str, sent: Collection[str]) -> Detail:
    """Say of a file that is not there how it is sent."""
    if _URL.match(received):
        return _address(received, group)
    name = _without_folder(received)
    if why := _why_out(received):
        message = (
            f"names {cut(received)!r}, but {why}: send the file in `{group}` and name it as it is "
            f'called there, such as "{_plain(name)}"'
        )
        return {"message": message}
    message = f"there is no input file {cut(name)!r}: send it in `{group}` under this name"
    if close := likely(name, sent):
        message += f"; did you mean {cut(close)!r}, which was sent?"
        return {"did_you_mean": cut(close), "message": message}
    if sent:
        message += f"; sent were {listed(sent)}"
    return {"message": message}


def not_listed(received: str, choices: Collection[Any]) -> Detail:
    """Say of a file that was sent why a node may not have it among its choices."""
    # comfy_extras/nodes_load_3d.py: Load3D lists what lies in the input folder's `3d`.
    message = (
        f"{cut(received)!r} was sent, but this node takes files of other kinds, or from a folder "
        f'of its own, as Load3D does: send it as "3d/{_plain(received)}" and name it so here'
    )
    names = [cut(str(choice)) for choice in choices]
    return {"message": message + (f"; it lists {listed(names)}" if names else "")}


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
    suspects = [
        (name, text)
        for name, value in node["inputs"].items()
        if not is_link(value)
        for text in texts_in(value)
        if _why_out(text)
    ]
    if not suspects:
        return
    configs = dict(inputs_of(describe(node["class_type"]) or {}))
    for name, text in suspects:
        config = configs.get(name)
        is_choice = text in (choices_of(config) or ())
        if takes_file(config) and text not in sent and not is_choice:
            yield {"input": cut(name), "received": cut(text), **_led_out(text, config, sent)}


def _led_out(text: str, config: Any, sent: Collection[str]) -> Detail:
    name = _without_folder(text)
    group = upload_group(config)
    if group is None and PurePosixPath(name).suffix.lower() in _MODELS:
        message = f"names {cut(text)!r}, but {_why_out(text)}: name the model as it is called here"
        if (plain := _plain(name)) in (choices_of(config) or ()):
            return {"did_you_mean": plain, "message": f"{message}; did you mean {plain!r}?"}
        return {"message": f'{message}, such as "{plain}"'}
    return not_sent(text, group or _group_of_kind(by_name(name)), sent)


def _group_of_kind(media_type: str | None) -> str:
    return "images" if media_type and kind_of(media_type) == "images" else "files"


def _why_out(value: str) -> str | None:
    """Say why what a value names is nothing of the job; None: it may be of the job.

    What begins like an address is a path as well, where `https:` is a folder that was sent.
    """
    if (folder := _FOLDER.search(value)) and folder[1] != "input":
        return "ComfyUI's output and temp folders are empty when a job begins"
    if _ABSOLUTE.match(value):
        return "a path on another machine is of no use here"
    if ".." in value.replace("\\", "/").split("/"):
        return "`..` leads out of the job's folder"
    return None


def _without_folder(value: str) -> str:
    return _FOLDER.sub("", value).strip()


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
