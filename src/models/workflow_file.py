"""The models that a workflow file names, with where it says that they can be had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from models.items import Failed, Item, say
from worker_comfyui.errors import Detail
from worker_comfyui.models import catalogue, loaders
from worker_comfyui.models.catalogue import Entry, Origin
from worker_comfyui.models.transfer import sources


def items(document: Any) -> list[Item]:
    """List what a file of ComfyUI's editor, or a request, says of its models.

    Raises:
        Failed: what a request says cannot be used.
    """
    sent = document.get("input", document) if isinstance(document, Mapping) else {}
    sent = sent if isinstance(sent, Mapping) else {}
    workflow = sent.get("workflow", sent)
    entries = [*_of_request(sent), *catalogue.of_workflow(workflow)]
    found: dict[str, Item] = {}
    for entry in entries:
        place = f"{entry.folder}/{entry.name}"
        item = Item(
            title=place,
            url=entry.url,
            destination=place,
            sha256=entry.sha256,
            size=entry.bytes,
        )
        found.setdefault(place, item)
    for item in _of_inputs(workflow, entries):
        found.setdefault(item.destination, item)
    return list(found.values())


def _of_request(sent: Mapping[str, Any]) -> list[Entry]:
    if not isinstance(sent.get("models"), list):
        return []
    problems: list[Detail] = []
    entries = catalogue.parse(sent["models"], "models", Origin.REQUEST, problems)
    if problems:
        raise Failed("\n".join(f"{p['path']} {p['message']}" for p in problems))
    return entries


def _of_inputs(workflow: Any, entries: Iterable[Entry]) -> list[Item]:
    """List the URLs in the inputs of an API workflow, and tell of names that nobody knows."""
    known = {PurePosixPath(entry.name).name for entry in entries}
    nodes = workflow.items() if isinstance(workflow, Mapping) else ()
    found = []
    for named in loaders.named({key: node for key, node in nodes if isinstance(node, Mapping)}):
        folder = loaders.FOLDERS.get(named.class_type, {}).get(named.input)
        if named.is_url and folder:
            place = f"{folder}/{sources.source(named.value).name}"
            found.append(Item(title=place, url=named.value, destination=place))
        elif not named.is_url and PurePosixPath(named.value.replace("\\", "/")).name not in known:
            say(f"note: node {named.node_id} names {named.value}, and nobody says where it is had")
    return found
