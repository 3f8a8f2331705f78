"""The JSON of an editor file → `File`. What has the wrong shape is refused with its path.

Both schemas are read (0.4: links are arrays, 1.0: objects), entry by entry, since files mix them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from worker_comfyui.errors import InvalidRequest
from worker_comfyui.wording import cut
from worker_comfyui.workflows.editor.graph import File, Graph, Link, Node, Port, Slot

MAX_NODES = 100_000
"""Nodes and links of a file, and nodes after subgraphs are expanded. Thousands are in use."""
MAX_SLOTS = 2_000
"""Inputs or outputs of one node."""
NO_SLOT = 10**9
"""Where a link comes in that does not say it."""


def is_editor_format(value: Any) -> bool:
    """Tell whether JSON is a file of ComfyUI's editor."""
    return isinstance(value, Mapping) and isinstance(value.get("nodes"), list)


def read(raw: Mapping[str, Any], path: str, check: Callable[[], None]) -> File:
    """Read a file.

    Args:
        raw: The file.
        path: Its place in the request.
        check: Raises when it is time to stop.

    Raises:
        InvalidRequest: something has the wrong shape, or there is too much of it.
    """
    root = _graph(raw, path, check)
    definitions: dict[str, Graph] = {}
    waiting = list(_definitions(raw, path))
    total = len(root.listed)
    while waiting:
        where, definition = waiting.pop(0)
        graph = _graph(definition, where, check)
        graph.id = _id(definition.get("id"), f"{where}.id")
        graph.name = str(definition.get("name") or "")
        graph.inputs = list(_ports(definition, "inputs", where))
        graph.outputs = list(_ports(definition, "outputs", where))
        definitions[graph.id] = graph
        total += len(graph.listed) + 1
        if total > MAX_NODES:
            raise InvalidRequest.at(path, f"has more than {MAX_NODES} nodes")
        waiting += _definitions(definition, where)
    return File(root, definitions, raw)


def _definitions(raw: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    section = object_at(raw, "definitions", path)
    yield from objects(section, "subgraphs", f"{path}.definitions")


def _graph(raw: Mapping[str, Any], path: str, check: Callable[[], None]) -> Graph:
    graph = Graph(path, last_node_id=_last_node_id(raw, path))
    for where, node in objects(raw, "nodes", path):
        check()
        graph.listed.append(read_node(node, where, graph))
    graph.index()
    for link in _links(raw, path):
        check()
        graph.links[link.id] = link
    return graph


def _last_node_id(raw: Mapping[str, Any], path: str) -> int:
    state = object_at(raw, "state", path)
    # Schema 0.4 has the first, 1.0 the second.
    ids = (raw.get("last_node_id"), state.get("lastNodeId"))
    return max((int(value) for value in ids if value is not None and _is_number(value)), default=0)


def read_node(raw: Mapping[str, Any], path: str, graph: Graph) -> Node:
    """Read one node."""
    mode = raw.get("mode")
    stored = raw.get("widgets_values")
    if not isinstance(mode, int | float | None) or not abs(mode or 0) < math.inf:
        raise InvalidRequest.at(f"{path}.mode", f"must be a number, not {cut(repr(mode))}")
    if not isinstance(stored, list | dict | None):
        raise InvalidRequest.at(f"{path}.widgets_values", "must be a list, or an object by names")
    if not isinstance(raw.get("type"), str):
        raise InvalidRequest.at(f"{path}.type", "must be the name of a node class")
    outputs = [output for _, output in objects(raw, "outputs", path)]
    title = raw.get("title")
    return Node(
        id=_id(raw.get("id"), f"{path}.id"),
        type=raw["type"],
        path=path,
        title="" if title is None else str(title),
        mode=int(mode or 0),
        properties=dict(object_at(raw, "properties", path)),
        stored=stored if stored is not None else [],
        file_slots=[_slot(slot, where) for where, slot in objects(raw, "inputs", path)],
        outputs=[_type(output.get("type")) for output in outputs],
        output_links=[_ids(output.get("links")) for output in outputs],
        graph=graph,
        numbered=_is_number(raw.get("id")),
    )


def _slot(raw: Mapping[str, Any], path: str) -> Slot:
    name = raw.get("name")
    if not isinstance(name, str | None):
        raise InvalidRequest.at(f"{path}.name", "must be text")
    widget = raw.get("widget")
    link = raw.get("link")
    return Slot(
        name or "",
        _type(raw.get("type")),
        None if link is None else _id(link, f"{path}.link"),
        str(widget.get("name")) if isinstance(widget, Mapping) else None,
    )


def _links(raw: Mapping[str, Any], path: str) -> Iterator[Link]:
    links = raw.get("links")
    if not isinstance(links, list | None):
        raise InvalidRequest.at(f"{path}.links", "must be a list")
    if len(links or ()) > MAX_NODES:
        raise InvalidRequest.at(f"{path}.links", f"has more than {MAX_NODES} links")
    for index, entry in enumerate(links or ()):
        link = None if entry is None else _link(entry, f"{path}.links[{index}]")
        if link is not None:
            yield link


def _link(raw: Any, path: str) -> Link | None:
    """Read a link; None for one without ends, which only those are told who name it."""
    if isinstance(raw, list) and len(raw) >= 5:
        values = [*raw[:6], None][:6]  # the type may be missing
    elif isinstance(raw, Mapping):
        keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        values = [raw.get(key) for key in keys]
    else:
        raise InvalidRequest.at(
            path, "must be [id, origin_id, origin_slot, target_id, target_slot, type]"
        )
    link, origin, target = (_id_text(values[place]) for place in (0, 1, 3))
    origin_slot, target_slot = (_slot_index(values[place]) for place in (2, 4))
    if link is None or origin is None or target is None or origin_slot is None:
        return None
    where = NO_SLOT if target_slot is None else target_slot
    return Link(link, origin, origin_slot, target, where, _type(values[5]))


def _ports(raw: Mapping[str, Any], key: str, path: str) -> Iterator[Port]:
    for _, port in objects(raw, key, path):
        name = str(port.get("name") or "")
        yield Port(name, _type(port.get("type")), _ids(port.get("linkIds")))


def object_at(raw: Mapping[str, Any], key: str, path: str) -> Mapping[str, Any]:
    """Return the object under a key; an empty one if it is not there."""
    value = raw.get(key)
    if value is None or value == []:  # PHP-like tools write an empty object so
        return {}
    if not isinstance(value, Mapping):
        raise InvalidRequest.at(f"{path}.{key}", "must be an object")
    return value


def objects(raw: Mapping[str, Any], key: str, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """List the objects in the list under a key, each with its path; null entries are left out."""
    values = raw.get(key)
    if values is None:
        return
    if not isinstance(values, list):
        raise InvalidRequest.at(f"{path}.{key}", "must be a list")
    limit = MAX_NODES if key in {"nodes", "subgraphs"} else MAX_SLOTS
    if len(values) > limit:
        raise InvalidRequest.at(f"{path}.{key}", f"has more than {limit} entries")
    for index, value in enumerate(values):
        if value is None:
            continue
        if not isinstance(value, Mapping):
            raise InvalidRequest.at(f"{path}.{key}[{index}]", "must be an object")
        yield f"{path}.{key}[{index}]", value


def _type(raw: Any) -> str:
    """Read a slot's type; files of 2023 have the choices of a combo there, and 0 for anything."""
    if isinstance(raw, list):
        return "COMBO"
    return "" if raw is None or isinstance(raw, int | float) else str(raw)


def _ids(raw: Any) -> list[str]:
    entries = raw if isinstance(raw, list) else []
    return [str(value) for value in entries if isinstance(value, str | int)]


def _id(raw: Any, path: str) -> str:
    text = _id_text(raw)
    if text is None:
        raise InvalidRequest.at(path, f"must be a number or text, not {cut(repr(raw))}")
    return text


def _id_text(raw: Any) -> str | None:
    if isinstance(raw, str):
        return raw
    return str(int(raw)) if _is_number(raw) else None


def _slot_index(raw: Any) -> int | None:
    if isinstance(raw, str) and raw.isdecimal():
        return int(raw[:9])  # no slot has more digits, and thousands of them take long
    return int(raw) if _is_number(raw) and raw >= 0 else None


def _is_number(raw: Any) -> bool:
    whole = isinstance(raw, int) and not isinstance(raw, bool)
    return whole or (isinstance(raw, float) and raw.is_integer())
