"""What people send as a workflow → the workflow in it.

Besides the two formats that is: the body of a request to ComfyUI's own API, a saved request to this
or another worker, an entry of ComfyUI's history, any of them as a text, a file in which ComfyUI
embedded one, and the name of a stored workflow.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from worker_comfyui.errors import InvalidRequest
from worker_comfyui.request.problems import kind_of
from worker_comfyui.wording import cut, json_fault
from worker_comfyui.workflows.api_format import EXPORT, is_api_format
from worker_comfyui.workflows.editor.reading import is_editor_format
from worker_comfyui.workflows.embedded import reading as embedded
from worker_comfyui.workflows.embedded.texts import MAX_TEXT_BYTES

MAX_LAYERS = 8
"""Wrappings around a workflow, such as a text in a request in a text."""

Load = Callable[[str, str], bytes]
"""Reads a file given as URL, data URI or base64, within the request's limits; the second argument
is the path in the request, for messages."""
Find = Callable[[str, str], Any]
"""Reads a stored workflow by its name; the second argument is the path in the request."""

_ADDRESS = re.compile(r"(https?://|data:)", re.IGNORECASE)
# Shorter than any file that has a workflow in it: that may be the name of a stored one.
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\s]{200,}+={0,2}\s*")
_JSON_STARTS = {"{", "[", '"'}
_WRAPPERS = ("input", "prompt", "output", "workflow")


@dataclass(frozen=True, slots=True)
class Sent:
    """A workflow that was found.

    Attributes:
        value: Its JSON: the API format, or the editor's.
        path: Its place in the request.
        is_editor: Which of the two.
        graph: The editor's file that came with an API workflow.
        notes: What the caller should know about how it was found.
    """

    value: Mapping[str, Any]
    path: str
    is_editor: bool
    graph: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sources:
    """Where workflows that are not in the request itself come from; None: not offered."""

    load: Load | None = None
    find: Find | None = None


@dataclass(frozen=True, slots=True)
class _Layer:
    """A value on the way to the workflow."""

    value: Any
    path: str
    graph: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


def unwrap(value: Any, sources: Sources, path: str = "workflow") -> Sent:
    """Find the workflow in what was sent.

    Raises:
        InvalidRequest: there is none.
        JobError: what `sources` raise.
    """
    layer = _Layer(value, path)
    for _ in range(MAX_LAYERS):
        value = layer.value
        if is_editor_format(value):
            return Sent(value, layer.path, is_editor=True, notes=layer.notes)
        if is_api_format(value):
            return Sent(value, layer.path, False, layer.graph, layer.notes)
        if not isinstance(value, str):
            layer = _inside(layer)
        elif _bare(value)[:1] in _JSON_STARTS:
            layer = replace(layer, value=_json(_bare(value), layer.path))
        else:
            layer = _from_text(layer, sources)
            sources = Sources()  # what was loaded is not followed to other places
    raise InvalidRequest.at(layer.path, f"is wrapped more than {MAX_LAYERS} times. {EXPORT}")


def _inside(layer: _Layer) -> _Layer:
    """Take off one wrapping."""
    value, path = layer.value, layer.path
    if value is None:
        raise InvalidRequest.at(path, f"is missing. {EXPORT}")
    if not isinstance(value, Mapping):
        raise InvalidRequest.at(path, f"must be an object, not {kind_of(value)}. {EXPORT}")
    if not value:
        raise InvalidRequest.at(path, f"has no nodes. {EXPORT}")
    # In this order: beside a `prompt`, `workflow` is only the editor's file of it.
    for unwrapped in (_of_request, _of_prompt, _of_graph, _of_history):
        inner = unwrapped(layer, value)
        if inner is not None:
            return inner
    raise InvalidRequest.at(path, f"is not a workflow: no node in it has a `class_type`. {EXPORT}")


def _of_request(layer: _Layer, value: Mapping[str, Any]) -> _Layer | None:
    """`{"input": {"workflow": ...}}`, as RunPod takes it."""
    if not isinstance(value.get("input"), Mapping | str):
        return None
    return replace(layer, value=value["input"], path=f"{layer.path}.input")


def _of_prompt(layer: _Layer, value: Mapping[str, Any]) -> _Layer | None:
    """`{"prompt": ...}` of ComfyUI's API and history, `{"output": ...}` of its editor."""
    graph = _graph_beside(value) or layer.graph
    for key in ("prompt", "output"):
        inner, path = value.get(key), f"{layer.path}.{key}"
        if isinstance(inner, list) and len(inner) > 2:  # of the history: number, id, prompt, extra
            graph = _graph_in(inner[3]) if len(inner) > 3 else graph
            return replace(layer, value=inner[2], path=f"{path}[2]", graph=graph)
        # A request's own `output` is no workflow: it says how results are delivered.
        if isinstance(inner, Mapping | str) and _leads_on(inner):
            return replace(layer, value=inner, path=path, graph=graph)
    return None


def _of_graph(layer: _Layer, value: Mapping[str, Any]) -> _Layer | None:
    """`{"workflow": ...}`: a request's `input`, or the editor's file beside other things."""
    if not isinstance(value.get("workflow"), Mapping | str):
        return None
    notes = layer.notes
    beside = [f"`{name}`" for name in ("images", "files", "overrides") if value.get(name)]
    if beside:
        notes += (f"{layer.path} is a whole request: its {', '.join(beside)} are not used",)
    return replace(layer, value=value["workflow"], path=f"{layer.path}.workflow", notes=notes)


def _of_history(layer: _Layer, value: Mapping[str, Any]) -> _Layer | None:
    """`{"<prompt id>": {"prompt": [...]}}`, one entry of ComfyUI's history."""
    key, only = next(iter(value.items()))
    if len(value) > 1 or not isinstance(only, Mapping) or "prompt" not in only:
        return None
    return replace(layer, value=only, path=f"{layer.path}.{cut(key)}")


def _leads_on(inner: Mapping[str, Any] | str) -> bool:
    if isinstance(inner, str):
        return _bare(inner)[:1] in _JSON_STARTS
    return is_api_format(inner) or is_editor_format(inner) or bool(inner.keys() & set(_WRAPPERS))


def _graph_beside(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Find the editor's file that a body of ComfyUI's API brings for the results' metadata."""
    return _graph_in(value.get("extra_data")) or (
        value["workflow"] if is_editor_format(value.get("workflow")) else None
    )


def _graph_in(extra: Any) -> Mapping[str, Any] | None:
    pnginfo = extra.get("extra_pnginfo") if isinstance(extra, Mapping) else None
    graph = pnginfo.get("workflow") if isinstance(pnginfo, Mapping) else None
    return graph if is_editor_format(graph) else None


def _from_text(layer: _Layer, sources: Sources) -> _Layer:
    text, path = layer.value.strip(), layer.path
    if _ADDRESS.match(text) or _BASE64.fullmatch(text):
        if sources.load is None:
            raise InvalidRequest.at(path, "is a file or an address, which cannot be read here")
        return _from_file(layer, sources.load(text, path))
    if not text:
        raise InvalidRequest.at(path, f"is empty. {EXPORT}")
    if sources.find is None:
        raise InvalidRequest.at(path, f"is a text, but not JSON. {EXPORT}")
    return replace(layer, value=sources.find(text, path))


def _bare(text: str) -> str:
    # Programs of Windows begin a file with a byte order mark, which counts as no space.
    return text.lstrip("\ufeff \t\r\n")


def _is_json(data: bytes) -> bool:
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return is_utf16 or data.removeprefix(codecs.BOM_UTF8).lstrip()[:1] in {b"{", b"["}


def _json(text: str | bytes, path: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"is a text that is not JSON: {json_fault(error)}"
        raise InvalidRequest.at(path, message) from None


def _from_file(layer: _Layer, data: bytes) -> _Layer:
    """Take the workflow out of a file; what ran (`prompt`) is preferred to what was drawn."""
    if _is_json(data):
        if len(data) > MAX_TEXT_BYTES:
            megabytes = f"{len(data) / 1e6:.0f} MB of JSON, more than a workflow needs"
            raise InvalidRequest.at(layer.path, f"is a file with {megabytes}")
        return replace(layer, value=_json(data, layer.path))
    found = embedded.read(data, layer.path)
    if found.prompt is not None and is_api_format(found.prompt):
        graph = found.workflow if is_editor_format(found.workflow) else None
        return replace(layer, value=_only_known(found.prompt), graph=graph)
    if found.workflow is None:
        raise InvalidRequest.at(
            layer.path, f"is a {found.kind} file whose `prompt` is not a workflow"
        )
    note = f"the {found.kind} file has no `prompt`: its editor's file was converted"
    return replace(layer, value=found.workflow, notes=(*layer.notes, note))


def _only_known(prompt: dict[str, Any]) -> dict[str, Any]:
    """Leave out what old versions of ComfyUI added to nodes when they ran (`is_changed`)."""
    known = ("inputs", "class_type", "_meta")
    return {
        node_id: {key: node[key] for key in known if key in node}
        if isinstance(node, dict)
        else node
        for node_id, node in prompt.items()
    }
