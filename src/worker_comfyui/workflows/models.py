"""The models that a file says where to get: `properties.models` of its loaders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from worker_comfyui.job import Workflow
from worker_comfyui.workflows.editor.export import Emitted

MAX_MODELS = 1_000


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that a workflow needs.

    Attributes:
        name: Its file name, as the loader's input has it.
        url: Where it can be had.
        directory: The kind of model: a folder such as `checkpoints` or `vae`.
        hash: Of the file, if the workflow's file says it.
        hash_type: Such as `SHA256`.
        node_id: The loader, in the API format.
        input: Its input that names the model; None if a link does.
    """

    name: str
    url: str
    directory: str
    hash: str | None
    hash_type: str | None
    node_id: str
    input: str | None


def named_models(
    nodes: Mapping[str, Emitted], workflow: Workflow, file: Mapping[str, Any]
) -> list[ModelEntry]:
    """List the models that the nodes which run name, with what the file knows about them.

    An entry whose name no input of its node has any more is left out: another model was chosen.
    Old files have their entries at the top (`models`), for whichever node names them.
    """
    found: dict[tuple[str, str | None, str], ModelEntry] = {}
    top = list(_entries(file.get("models")))
    for node_id, emitted in nodes.items():
        own = list(_entries(emitted.node.properties.get("models")))
        inputs = workflow[node_id]["inputs"]
        for entry in own:
            names = list(_inputs_naming(entry, inputs))
            if not names and any(isinstance(value, list) for value in inputs.values()):
                names = [None] if _may_be_linked(emitted, inputs) else []
            for name in names:
                found.setdefault((node_id, name, entry["name"]), _model(entry, node_id, name))
        for entry in top:
            for name in _inputs_naming(entry, inputs):
                found.setdefault((node_id, name, entry["name"]), _model(entry, node_id, name))
    return list(found.values())[:MAX_MODELS]


def _entries(raw: Any) -> Iterable[dict[str, Any]]:
    for entry in raw if isinstance(raw, list) else ():
        if isinstance(entry, dict) and all(
            isinstance(entry.get(key), str) and entry[key] for key in ("name", "url", "directory")
        ):
            yield entry


def _inputs_naming(entry: Mapping[str, Any], inputs: Mapping[str, Any]) -> Iterator[str | None]:
    wanted = entry["name"]
    for name, value in inputs.items():
        if isinstance(value, str) and value.replace("\\", "/").rpartition("/")[2] == wanted:
            yield name


def _may_be_linked(emitted: Emitted, inputs: Mapping[str, Any]) -> bool:
    """Tell whether a link may give a loader the name of its model."""
    widgets = {slot.name for slot in emitted.node.inputs if slot.widget is not None}
    return any(isinstance(inputs.get(name), list) for name in widgets)


def _model(entry: Mapping[str, Any], node_id: str, name: str | None) -> ModelEntry:
    digest, kind = entry.get("hash"), entry.get("hash_type")
    return ModelEntry(
        name=entry["name"],
        url=entry["url"],
        directory=entry["directory"],
        hash=digest if isinstance(digest, str) else None,
        hash_type=kind if isinstance(kind, str) else None,
        node_id=node_id,
        input=name,
    )
