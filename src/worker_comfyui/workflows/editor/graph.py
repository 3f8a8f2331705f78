"""A graph as the editor holds it: nodes with slots and widgets, and the links between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from worker_comfyui.errors import Detail
from worker_comfyui.workflows.editor.node_classes import InputSpec, NodeClass

UNSET: Final[Any] = type("Unset", (), {"__repr__": lambda _: "UNSET"})()
"""The value of a widget that has none; such an input is left out."""
INPUT_PANEL = "-10"
"""Origin of the links that come into a subgraph from its host."""
OUTPUT_PANEL = "-20"


class Mode(IntEnum):
    """What the editor does with a node.

    Other numbers count as `ALWAYS`: LiteGraph's 1 and 3 wait for events, of which ComfyUI has none.
    """

    ALWAYS = 0
    NEVER = 2
    BYPASS = 4


# Here eq=False: nodes, links and graphs are who they are, and know each other in circles.
@dataclass(slots=True, eq=False)
class Link:
    """A connection. Ids are text, as the API format has them."""

    id: str
    origin: str
    origin_slot: int
    target: str
    target_slot: int
    type: str = ""


@dataclass(slots=True, eq=False)
class Slot:
    """An input of a node.

    Attributes:
        name: As the node class names it.
        type: What it takes.
        link: Id of the link that comes in.
        widget: Name of the widget that gives its value when nothing is linked.
        promoted: Of a subgraph's host: whether the host has a value of its own for it.
        value: That value.
    """

    name: str
    type: str
    link: str | None = None
    widget: str | None = None
    promoted: bool = False
    value: Any = UNSET


def slots_by_name(slots: Iterable[Slot]) -> dict[str, Slot]:
    """Look up inputs by name; of those with the same name the last, but one that is linked.

    Some files list an input twice. The editor takes the last, and so may lose a link.
    """
    found: dict[str, Slot] = {}
    for slot in slots:
        if slot.link is not None or slot.name not in found or found[slot.name].link is None:
            found[slot.name] = slot
    return found


@dataclass(slots=True, eq=False)
class Widget:
    """Something in a node that holds a value.

    Attributes:
        name: The input that it gives a value to.
        kind: `INT`, `COMBO`, ... or one of the editor's own.
        value: What it holds.
        spec: The input that it was made for, if any.
        choices: What a combo offers.
        stored: Whether it owns an entry in `widgets_values`.
        sent: Whether its value belongs into the API format.
        fixed: Its value is always the same, whatever the file says.
        dynamic_prompt: Whether `{a|b}` in its text is drawn.
    """

    name: str
    kind: str
    value: Any = UNSET
    spec: InputSpec | None = None
    choices: list[Any] = field(default_factory=list)
    stored: bool = True
    sent: bool = True
    fixed: bool = False
    dynamic_prompt: bool = False


@dataclass(frozen=True, slots=True)
class Autogrow:
    """A group of inputs that grows as its last one is linked."""

    specs: tuple[InputSpec, ...]
    names: tuple[str, ...] | None
    prefix: str
    minimum: int
    maximum: int


@dataclass(slots=True, eq=False)
class Port:
    """An input or output of a subgraph definition."""

    name: str
    type: str
    links: list[str]


@dataclass(slots=True, eq=False)
class Node:
    """A node of the file.

    Attributes:
        id: As text.
        type: Its class, or the id of its subgraph definition.
        path: Its place in the request, for messages.
        title: The file's own title, "" if it has none.
        mode: See `Mode`.
        properties: As the file has them.
        stored: `widgets_values`: a list, or an object by names.
        file_slots: The inputs as the file has them.
        outputs: Types of the outputs.
        output_links: For each output, ids of its links.
        graph: The graph that it is in.
        numbered: Whether its id is a JSON number.
        inputs: Slots: sockets first, then one for each widget.
        widgets: In the editor's order.
        node_class: None if this ComfyUI does not have the class.
        definition: The subgraph, if this is a host.
        autogrow: Groups of inputs that grow, by name.
    """

    id: str
    type: str
    path: str
    title: str
    mode: int
    properties: dict[str, Any]
    stored: list[Any] | dict[str, Any]
    file_slots: list[Slot]
    outputs: list[str]
    output_links: list[list[str]]
    graph: Graph
    numbered: bool = True
    inputs: list[Slot] = field(default_factory=list)
    widgets: list[Widget] = field(default_factory=list)
    node_class: NodeClass | None = None
    definition: Graph | None = None
    autogrow: dict[str, Autogrow] = field(default_factory=dict)

    def widget(self, name: str | None) -> Widget | None:
        """Find a widget by its name."""
        return next((widget for widget in self.widgets if widget.name == name), None)

    def slot(self, name: str) -> Slot | None:
        """Find an input by its name."""
        return next((slot for slot in self.inputs if slot.name == name), None)

    def slot_of_link(self, link: str) -> Slot | None:
        """Find the input into which a link comes."""
        return next((slot for slot in self.inputs if slot.link == link), None)

    @property
    def first_links(self) -> list[str]:
        """Ids of the links of its first output."""
        return self.output_links[0] if self.output_links else []

    @property
    def shown_title(self) -> str:
        """What the editor shows: the file's title, else that of its class or subgraph."""
        if self.title:
            return self.title
        if self.definition is not None:
            return self.definition.name
        return self.node_class.title if self.node_class else self.type

    def where(self) -> Detail:
        """Say for a problem which node it is about."""
        detail: Detail = {"path": self.path, "node_id": self.id, "class_type": self.type}
        if self.title:
            detail["title"] = self.title
        return detail


@dataclass(slots=True, eq=False)
class Graph:
    """The root graph, or a subgraph definition.

    Attributes:
        path: Its place in the request.
        id: Of a definition; "" for the root.
        name: Of a definition.
        last_node_id: The highest id that the editor gave out.
        listed: All nodes in the file's order; ids may repeat.
        nodes: Nodes by id; of those with the same id, the last.
        links: By id.
        inputs: Ports of a definition.
        outputs: Ports of a definition.
    """

    path: str
    id: str = ""
    name: str = ""
    last_node_id: int = 0
    listed: list[Node] = field(default_factory=list)
    nodes: dict[str, Node] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)

    def index(self) -> None:
        """Make `nodes` anew after ids changed."""
        self.nodes = {node.id: node for node in self.listed}


@dataclass(slots=True, eq=False)
class File:
    """A whole editor file.

    Attributes:
        root: The graph that runs.
        definitions: Subgraph definitions in the file's order, by id.
        raw: The file itself, as it was sent.
    """

    root: Graph
    definitions: dict[str, Graph]
    raw: Mapping[str, Any]
