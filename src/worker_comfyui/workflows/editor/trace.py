"""Where a link really comes from: through Reroutes, bypassed nodes, and in and out of subgraphs.

Frontend lib/litegraph/src/subgraph/ExecutableNodeDTO.ts (resolveInput, resolveOutput). That is a
recursion; here it is a loop over `_Step`s, so that no file is too deep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from worker_comfyui.errors import Detail, InvalidRequest
from worker_comfyui.workflows.editor.graph import INPUT_PANEL, Graph, Mode, Node
from worker_comfyui.workflows.editor.virtual import Role, role, setters, stored_name


@dataclass(frozen=True, slots=True)
class Value:
    """A value in place of a link.

    Attributes:
        value: A host's own, or what a primitive stores.
        for_socket: Whether it counts for inputs without a widget only.
    """

    value: Any
    for_socket: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """An output of a node that runs.

    Attributes:
        id: Of the node, in the API format: `12` or `3:12`.
        slot: Index of the output.
    """

    id: str
    slot: int


class Scope:
    """A graph in its place: the root, or one host's copy of its subgraph.

    Attributes:
        graph: What is in it.
        host: The node that stands for it in `parent`; None for the root.
        parent: The scope around it.
        prefix: What its nodes' ids begin with: "" or `3:12:`.
    """

    __slots__ = ("_children", "_setters", "graph", "host", "parent", "prefix")

    def __init__(self, graph: Graph, host: Node | None = None, parent: Scope | None = None) -> None:
        self.graph = graph
        self.host = host
        self.parent = parent
        self.prefix: str = f"{parent.prefix}{host.id}:" if parent and host else ""
        self._children: dict[int, Scope] = {}
        self._setters: dict[str, Node] | None = None

    def inside(self, host: Node) -> Scope:
        """Return the scope of a host's subgraph."""
        if id(host) not in self._children:
            assert host.definition is not None  # noqa: S101  # nosec B101  # hosts have one
            self._children[id(host)] = Scope(host.definition, host, self)
        return self._children[id(host)]

    def setter(self, name: str) -> tuple[Scope, Node] | None:
        """Find the Set node of a name, here or in the scopes around."""
        scope: Scope | None = self
        while scope is not None:
            if scope._setters is None:  # the same class
                scope._setters = setters(scope.graph)
            if name in scope._setters:
                return scope, scope._setters[name]
            scope = scope.parent
        return None


@dataclass(frozen=True, slots=True)
class _Step:
    """One step back along a link: at an input or an output of a node, asked for a type."""

    scope: Scope
    node: Node
    slot: int
    is_input: bool
    type: str | None = None


class Tracer:
    """Resolves links; each stretch of the way is walked once."""

    def __init__(self) -> None:
        self._known: dict[_Step, Source | Value | InvalidRequest | None] = {}

    def resolve(self, scope: Scope, node: Node, slot: int) -> Source | Value | None:
        """Say what comes in at a node's input; None: nothing.

        Raises:
            InvalidRequest: a link that the file names is missing, or links go in a circle.
        """
        step: _Step | Source | Value | InvalidRequest | None
        step = _Step(scope, node, slot, is_input=True)
        walked: dict[_Step, None] = {}
        while isinstance(step, _Step):
            if step in self._known:
                step = self._known[step]
            elif step in walked:
                step = InvalidRequest.of([_problem(scope, node, slot, "its links go in a circle")])
            else:
                walked[step] = None
                step = _next(step)
        self._known.update(dict.fromkeys(walked, step))
        if isinstance(step, InvalidRequest):
            raise step
        return step


def _next(step: _Step) -> _Step | Source | Value | InvalidRequest | None:
    try:
        return _from_input(step) if step.is_input else _from_output(step)
    except InvalidRequest as error:
        return error


def _problem(scope: Scope, node: Node, slot: int, message: str) -> Detail:
    where: Detail = {**node.where(), "node_id": f"{scope.prefix}{node.id}"}
    name = node.inputs[slot].name if slot < len(node.inputs) else ""
    return {**where, "input": name, "message": message}


def _from_input(step: _Step) -> _Step | Value | None:
    scope, node = step.scope, step.node
    if step.slot >= len(node.inputs):  # the editor fails for a bypassed node without inputs
        return None
    slot = node.inputs[step.slot]
    if slot.link is None:
        return None
    link = scope.graph.links.get(slot.link)
    if link is None:
        message = f"is linked, but the file has no link {slot.link}"
        raise InvalidRequest.of([_problem(scope, node, step.slot, message)])
    asked = slot.type if step.type is None else step.type
    if link.origin == INPUT_PANEL and scope.host is not None and scope.parent is not None:
        return _out_of(scope.host, scope.parent, step, link.origin_slot)
    origin = scope.graph.nodes.get(link.origin)
    if origin is None:
        message = f"is linked to node {link.origin}, which the file does not have"
        raise InvalidRequest.of([_problem(scope, node, step.slot, message)])
    return _Step(scope, origin, link.origin_slot, is_input=False, type=asked)


def _out_of(host: Node, parent: Scope, step: _Step, index: int) -> _Step | Value | None:
    """Go from inside a subgraph to its host's input."""
    if index >= len(host.inputs):
        message = f"is linked to input {index} of its subgraph, which has {len(host.inputs)}"
        raise InvalidRequest.of([_problem(step.scope, step.node, step.slot, message)])
    slot = host.inputs[index]
    if slot.link is None:
        return Value(slot.value) if slot.promoted else None
    # From here on the host's own type is asked for, no longer that of the final input.
    return _Step(parent, host, index, is_input=True)


def _from_output(step: _Step) -> _Step | Source | Value | None:
    scope, node = step.scope, step.node
    if node.mode == Mode.NEVER:
        return None
    if node.mode == Mode.BYPASS:
        index = _bypass(node, step.slot, step.type or "")
        return None if index is None else _Step(scope, node, index, is_input=True)
    kind = role(node)
    if kind is Role.HOST:
        return _into(step)
    if kind in _VIRTUAL:
        return _through(step, kind)
    return Source(f"{scope.prefix}{node.id}", step.slot)


_VIRTUAL = {Role.PASS, Role.SET, Role.GET, Role.PRIMITIVE, Role.NOTHING}


def _through(step: _Step, kind: Role) -> _Step | Value | None:
    """Go through a node that exists in the browser only."""
    if kind is Role.PASS:
        return _Step(step.scope, step.node, step.slot, is_input=True, type=step.type)
    if kind is Role.SET:
        return _Step(step.scope, step.node, 0, is_input=True, type=step.type)
    if kind is Role.PRIMITIVE:
        return _stored_value(step)
    # Of the others a note gives nothing.
    found = step.scope.setter(stored_name(step.node)) if kind is Role.GET else None
    return _Step(*found, 0, is_input=True, type=step.type) if found else None


def _stored_value(step: _Step) -> Value | None:
    """Read what a primitive gives to an input that was a widget once, and is a socket today.

    Into widgets it has written its value already. The editor loses the others.
    """
    stored = step.node.stored
    value = stored[0] if isinstance(stored, list) and stored else None
    fits = _PLAIN.get(step.type or "", ())
    return Value(value, for_socket=True) if type(value) in fits else None


_PLAIN: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "INT": (int,),
    "FLOAT": (int, float),
    "BOOLEAN": (bool,),
}


def _into(step: _Step) -> _Step | None:
    """Go from a host's output to the node inside that gives it."""
    inner = step.scope.inside(step.node)
    ports = inner.graph.outputs
    links = ports[step.slot].links if step.slot < len(ports) else []
    link = next((inner.graph.links[link] for link in links if link in inner.graph.links), None)
    if link is None:
        return None
    if link.origin == INPUT_PANEL:  # straight through; the editor fails here
        return _Step(step.scope, step.node, link.origin_slot, is_input=True, type=step.type)
    origin = inner.graph.nodes.get(link.origin)
    if origin is None:
        message = f"its subgraph's output {step.slot} is linked to node {link.origin}, which the "
        message += "file does not have"
        raise InvalidRequest.of([{**step.node.where(), "message": message}])
    return _Step(inner, origin, link.origin_slot, is_input=False, type=step.type)


def _bypass(node: Node, slot: int, asked: str) -> int | None:
    """Choose the input at which a bypassed node goes on; it counts even if nothing is linked."""
    inputs = node.inputs
    given = node.outputs[slot] if slot < len(node.outputs) else ""
    if asked in {"*", ""}:
        return slot if slot < len(inputs) else 0
    fits = [compatible(each.type, given) and compatible(each.type, asked) for each in inputs]
    if slot < len(inputs) and fits[slot]:
        return slot
    # First what old editors looked for alone (_getBypassSlotIndex).
    exact = next((index for index, each in enumerate(inputs) if each.type == asked), None)
    return exact if exact is not None else next((i for i, fit in enumerate(fits) if fit), None)


def compatible(one: str, other: str) -> bool:
    """Tell whether an output of one type may be linked to an input of the other."""
    if one in {"", "*"} or other in {"", "*"} or one == other:
        return True
    ours, theirs = one.lower().split(","), other.lower().split(",")
    if len(ours) == len(theirs) == 1:
        return ours == theirs
    return any(a == b or a in {"", "*"} or b in {"", "*"} for a in ours for b in theirs)
