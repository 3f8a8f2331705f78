"""A graph that is built → the API format. Frontend utils/executionUtil.ts (graphToPrompt)."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

from worker_comfyui.errors import Detail, InvalidRequest
from worker_comfyui.job import Workflow, wrapped
from worker_comfyui.request.problems import Problems
from worker_comfyui.wording import cut
from worker_comfyui.workflows.editor import groups, javascript, packs, text
from worker_comfyui.workflows.editor.graph import UNSET, Graph, Mode, Node, Widget
from worker_comfyui.workflows.editor.reading import MAX_NODES
from worker_comfyui.workflows.editor.trace import Scope, Source, Tracer, Value
from worker_comfyui.workflows.editor.virtual import REFUSED, Role, role

MAX_INPUTS = 2_000_000
"""Inputs of all nodes that run, each copy of a subgraph counted."""
MAX_BYTES = 64 << 20
"""JSON of all nodes that run, each copy counted: a short file may hold a long text many times."""

_SILENT = {Mode.NEVER, Mode.BYPASS}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Emitted:
    """A node that runs: its id in the API format, and what it is in the file."""

    id: str
    node: Node
    scope: Scope


class Exporter:
    """Writes the API format, and collects what cannot be written.

    Args:
        root: The graph that runs, built.
        random: Draws `{a|b}`.
        now: For `%date:...%`.
        problems: Takes what cannot be written.
        check: Raises when it is time to stop; asked for each node.
    """

    def __init__(
        self,
        root: Graph,
        random: Random,
        now: datetime,
        problems: Problems,
        check: Callable[[], None],
    ) -> None:
        self._root = root
        self._random = random
        self._check = check
        self._replacements = text.Replacements(root, now)
        self._inputs_left = MAX_INPUTS
        self._bytes_left = MAX_BYTES
        self._tracer = Tracer()
        self.problems = problems
        self.emitted: dict[str, Emitted] = {}

    def run(self) -> Workflow:
        """Write all nodes that run."""
        for scope, node in _in_order(Scope(self._root)):
            if node.mode not in _SILENT:
                self._collect(scope, node)
        # JSON of the editor is in this order, since a JavaScript object is.
        self.emitted = {id_: self.emitted[id_] for id_ in javascript.key_order(self.emitted)}
        workflow = {id_: self._node(emitted) for id_, emitted in self.emitted.items()}
        for sent in workflow.values():
            gone = [name for name, value in sent["inputs"].items() if self._is_cut(value)]
            for name in gone:
                del sent["inputs"][name]
        return workflow

    def _is_cut(self, value: Any) -> bool:
        return isinstance(value, list) and value[0] not in self.emitted

    def _collect(self, scope: Scope, node: Node) -> None:
        self._check()
        emitted = Emitted(f"{scope.prefix}{node.id}", node, scope)
        self._count(len(emitted.id))
        kind = role(node)
        if kind in {Role.REAL, Role.MISSING, Role.REFUSED}:
            self.emitted[emitted.id] = emitted
            self._inputs_left -= len(node.inputs) + len(node.widgets)
            if self._inputs_left < 0:
                raise InvalidRequest.at(
                    self._root.path, f"has more than {MAX_INPUTS} inputs in its nodes"
                )
        reason = {Role.MISSING: _missing, Role.REFUSED: _refused, Role.REAL: packs.fault}.get(kind)
        message = reason(node) if reason else None
        if message:
            detail: Detail = {**node.where(), "node_id": emitted.id, "message": message}
            pack = pack_of(node)
            if pack and kind is Role.MISSING:
                detail["pack"] = pack
            self.problems.note(detail)

    def _node(self, emitted: Emitted) -> dict[str, Any]:
        self._check()
        node = emitted.node
        sent = {
            "inputs": self._inputs(emitted),
            "class_type": node.type,
            "_meta": {"title": node.shown_title},
        }
        self._count(_size(sent))
        return sent

    def _count(self, size: int) -> None:
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise InvalidRequest.at(
                self._root.path,
                f"becomes more than {MAX_BYTES >> 20} MB, each copy of a subgraph counted",
            )

    def _inputs(self, emitted: Emitted) -> dict[str, Any]:
        node = emitted.node
        inputs: dict[str, Any] = {}
        for widget in node.widgets:
            if widget.sent and widget.name:
                inputs[widget.name] = self._sent(widget, node)
        for index, slot in enumerate(node.inputs):
            found = self._resolved(emitted, index)
            if isinstance(found, Source):
                inputs[slot.name] = [found.id, found.slot]
            elif isinstance(found, Value) and not (found.for_socket and slot.widget):
                inputs[slot.name] = wrapped(found.value)
        return {name: value for name, value in inputs.items() if value is not UNSET}

    def _resolved(self, emitted: Emitted, index: int) -> Source | Value | None:
        if emitted.node.inputs[index].link is None:
            return None
        try:
            return self._tracer.resolve(emitted.scope, emitted.node, index)
        except InvalidRequest as error:
            for detail in error.details:
                self.problems.note(detail)
            return None

    def _sent(self, widget: Widget, node: Node) -> Any:
        value = widget.value
        if widget.kind == "INDEX":
            # CustomCombo: the choice, this index, the options (extensions/core/customWidgets.ts).
            options = [other.value for other in node.widgets[2:]]
            chosen = node.widgets[0].value
            return options.index(chosen) if chosen in options else -1
        if isinstance(value, str):
            if widget.dynamic_prompt:
                return text.draw(value, self._random, node)
            if widget.name == "filename_prefix" and node.type in text.SAVING_CLASSES:
                return self._replacements.replaced(value)
        if widget.kind == "CURVE" and isinstance(value, list):
            return {"__type__": "CURVE", **wrapped(value)}
        return wrapped(value)


def _size(sent: dict[str, Any]) -> int:
    try:
        return len(json.dumps(sent))
    except RecursionError:  # what is nested so deep is refused when the result is checked
        return 0


def _missing(node: Node) -> str:
    if _UUID.fullmatch(node.type):
        return "is a subgraph, but the file does not have its definition"
    if node.type.startswith(groups.PREFIXES):
        return "is a group node, but the file does not have its group"
    pack = pack_of(node)
    if pack and pack.startswith("comfy-core"):  # what the editor calls ComfyUI itself
        return f"this ComfyUI has no class {cut(node.type)!r}: the file needs {pack}"
    known = f"; the file names its pack: {pack}" if pack else ""
    return f"this ComfyUI has no class {cut(node.type)!r}{known}"


def _refused(node: Node) -> str:
    return f"cannot be converted: {REFUSED[node.type]}"


def pack_of(node: Node) -> str | None:
    """Name the pack that a file gives for a node: its registry id or repository, and version."""
    for key in ("cnr_id", "aux_id"):
        name = node.properties.get(key)
        if isinstance(name, str) and name:
            version = node.properties.get("ver")
            return cut(f"{name} {version}" if isinstance(version, str) and version else name)
    return None


def _in_order(root: Scope) -> Iterator[tuple[Scope, Node]]:
    """Walk all nodes of the root in the editor's order of execution, a host's after it."""
    count = 0
    for node in _execution_order(root.graph):
        yield root, node
        if node.definition is None or node.mode in _SILENT:
            continue
        for inner in _inside(root.inside(node)):
            count += 1
            if count > MAX_NODES:
                raise InvalidRequest.at(
                    root.graph.path, f"has more than {MAX_NODES} nodes in its subgraphs"
                )
            yield inner


def _inside(scope: Scope) -> Iterator[tuple[Scope, Node]]:
    """Walk a host's nodes.

    Hosts among them are entered whatever their mode, unlike those in the root: `getInnerNodes` of
    SubgraphNode.ts does not ask for it, and a template of ComfyUI's depends on that.
    """
    stack = [(scope, iter(scope.graph.nodes.values()))]
    while stack:
        scope, nodes = stack[-1]
        node = next(nodes, None)
        if node is None:
            stack.pop()
            continue
        yield scope, node
        if node.definition is not None:
            inner = scope.inside(node)
            stack.append((inner, iter(inner.graph.nodes.values())))


def _execution_order(graph: Graph) -> list[Node]:
    """Sort the nodes: those without links first, then each when all that it needs is there.

    Frontend lib/litegraph/src/LGraph.ts (computeExecutionOrder).
    """
    waiting = {
        node.id: sum(slot.link is not None for slot in node.inputs) for node in graph.nodes.values()
    }
    ready = deque(node for node in graph.nodes.values() if not waiting[node.id])
    done: dict[str, Node] = {}
    while ready:
        node = ready.popleft()
        done[node.id] = node
        for links in node.output_links:
            for link in links:
                target = graph.links[link].target if link in graph.links else ""
                if target in waiting and target not in done:
                    waiting[target] -= 1
                    if waiting[target] == 0:
                        ready.append(graph.nodes[target])
    return [*done.values(), *(node for node in graph.nodes.values() if node.id not in done)]
