"""Convert a file of ComfyUI's editor. The order of the steps is the editor's, and matters.

ComfyUI itself serves no conversion. The rules are those of its frontend 1.49.6; where its export is
random or broken, docs/workflows.md says what happens instead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from random import Random
from typing import Any

from worker_comfyui.errors import InvalidRequest
from worker_comfyui.job import Workflow
from worker_comfyui.request.problems import Problems
from worker_comfyui.workflows.editor import everywhere, fresh, packs, primitives, restore
from worker_comfyui.workflows.editor.definitions import build_order, find_hosts, renumber
from worker_comfyui.workflows.editor.duplicates import merge_links
from worker_comfyui.workflows.editor.export import Emitted, Exporter
from worker_comfyui.workflows.editor.graph import Graph, Node
from worker_comfyui.workflows.editor.group_values import GroupValues, assign_values
from worker_comfyui.workflows.editor.groups import expand
from worker_comfyui.workflows.editor.hosts import build_host, repair_host
from worker_comfyui.workflows.editor.misfits import misfits
from worker_comfyui.workflows.editor.node_classes import NodeClasses
from worker_comfyui.workflows.editor.promotions import Migration
from worker_comfyui.workflows.editor.reading import read
from worker_comfyui.workflows.editor.reroutes import cut_mismatches
from worker_comfyui.workflows.editor.text import Replacements
from worker_comfyui.workflows.editor.virtual import BROWSER_INPUTS, Role, role
from worker_comfyui.workflows.editor.widgets import CONTROL


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of a file.

    Attributes:
        workflow: The API format; complete even if there are problems.
        nodes: What each node of it is in the file.
        problems: Why it must not run as it is.
        notes: What the caller may want to know.
        misfits: What to say of nodes whose values are of another version of their class, by id.
        randomized: Inputs for which the editor would draw a new value after the run.
    """

    workflow: Workflow
    nodes: Mapping[str, Emitted]
    problems: Problems
    notes: list[str] = field(default_factory=list)
    misfits: Mapping[str, str] = field(default_factory=dict)
    randomized: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What an export depends on besides the file.

    Attributes:
        random: Draws `{a|b}` in prompts.
        now: For `%date:...%` in file names.
        queued: Whether links are made that packs make only when a prompt is queued.
        path: The file's place in the request.
        check: Raises when it is time to stop; asked for each node, and where one may take long.
    """

    random: Random = field(default_factory=Random)
    now: datetime = field(default_factory=lambda: datetime.now().astimezone())
    queued: bool = True
    path: str = "workflow"
    check: Callable[[], None] = lambda: None


def convert(
    raw: Mapping[str, Any], object_info: Mapping[str, Any], circumstances: Circumstances
) -> Conversion:
    """Convert a file of ComfyUI's editor to the API format.

    Args:
        raw: The file; it is not changed, and parts of it are in the result.
        object_info: ComfyUI's `/object_info`.
        circumstances: What else it depends on.

    Raises:
        InvalidRequest: the file is not one of the editor's, or too large.
    """
    check = circumstances.check
    file = read(raw, circumstances.path, check)
    classes = NodeClasses(object_info)
    renumber(file)
    # After the ids are unique: the editor numbers what groups become after all others.
    group_values = expand(file, classes, check)
    find_hosts(file)
    graphs = build_order(file)
    _build(graphs, classes, group_values, check)
    for graph in graphs:
        _finish(graph, check)
    for graph in graphs:
        # Not before all graphs are loaded: the editor does this when it exports (executionUtil.ts).
        _apply_primitives(graph, circumstances.now)
    problems, notes = Problems(InvalidRequest), list[str]()
    if circumstances.queued:
        for graph in graphs:
            everywhere.connect(graph, problems, notes, check)
    exporter = Exporter(file.root, circumstances.random, circumstances.now, problems, check)
    workflow = exporter.run()
    randomized = list(_randomized(workflow, exporter.emitted))
    notes += _made_in_browser(exporter.emitted)
    odd = misfits(workflow, exporter.emitted)
    return Conversion(workflow, exporter.emitted, problems, notes, odd, randomized)


def _made_in_browser(nodes: Mapping[str, Emitted]) -> Iterator[str]:
    for node_id, emitted in nodes.items():
        if emitted.node.type in BROWSER_INPUTS:
            missing = BROWSER_INPUTS[emitted.node.type]
            yield f"node {node_id} ({emitted.node.type}): {missing} made in the browser, and empty"


def _randomized(workflow: Workflow, nodes: Mapping[str, Emitted]) -> Iterator[str]:
    for node_id, emitted in nodes.items():
        # A control stands right behind the widget that it changes.
        for widget, control in pairwise(emitted.node.widgets):
            sent = workflow[node_id]["inputs"].get(widget.name)
            if control.kind == CONTROL and control.value == "randomize" and isinstance(sent, int):
                yield f"{node_id}.{widget.name}"


def _build(
    graphs: list[Graph],
    classes: NodeClasses,
    group_values: Mapping[str, GroupValues],
    check: Callable[[], None],
) -> None:
    instances: dict[str, list[Node]] = defaultdict(list)
    for graph in graphs:
        for node in graph.nodes.values():
            check()
            _build_node(node, classes, instances, check)
        merge_links(graph)
        if graph.id in group_values:
            assign_values(group_values[graph.id])
        for node in graph.nodes.values():
            # Not while nodes are built: an entry may mean one further down.
            if node.definition is not None and "proxyWidgets" in node.properties:
                Migration(node, node.definition, instances[node.type], check).run()


def _build_node(
    node: Node,
    classes: NodeClasses,
    instances: dict[str, list[Node]],
    check: Callable[[], None],
) -> None:
    if node.definition is not None:
        build_host(node, node.definition, check)
        instances[node.type].append(node)
        return
    node_class = classes.get(node.type)
    if node_class is None:
        node.inputs = node.file_slots
        return
    fresh.build(node, node_class)
    packs.prepare(node)
    restore.restore(node, node_class)


def _finish(graph: Graph, check: Callable[[], None]) -> None:
    """Do what the editor does when a whole graph is loaded."""
    for node in graph.nodes.values():
        check()
        # Of others the editor does not know which widgets they have.
        if node.node_class is not None:
            restore.drop_ghosts(node)
    where = primitives.places(graph)
    for node in graph.nodes.values():
        if role(node) is Role.PRIMITIVE:
            primitives.prepare(node, graph, where)
    for node in graph.nodes.values():
        if node.definition is not None:
            repair_host(node, check)
        else:
            restore.repair(node)
    # Last: the editor does it a frame after loading.
    cut_mismatches(graph)


def _apply_primitives(graph: Graph, now: datetime) -> None:
    where = primitives.places(graph)
    replacements = Replacements(graph, now)
    for node in graph.nodes.values():
        if role(node) is Role.PRIMITIVE:
            primitives.apply(node, graph, where, replacements.replaced)
