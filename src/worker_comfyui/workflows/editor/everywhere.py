"""cg-use-everywhere: links that the pack makes only when a prompt is queued.

Its nodes broadcast what comes in at their inputs to every unlinked input of the same type. The rule
is that of version 7.8 (js/use_everywhere_classes.js, use_everywhere_graph_analysis.js); broadcasts
that are limited to groups or colours, which are things of the canvas, are refused.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from worker_comfyui.request.problems import Problems
from worker_comfyui.wording import cut
from worker_comfyui.workflows.editor.graph import (
    INPUT_PANEL,
    OUTPUT_PANEL,
    Graph,
    Link,
    Mode,
    Node,
    Slot,
)

MAX_BROADCASTS = 500
"""Each is compared with every input of its type."""
_PROMPTS = "Prompts Everywhere"
_SEED = "Seed Everywhere"
_LIMITS = ("group_restricted", "color_restricted", "group_regex")
# Patterns come from the caller, and `(a+)+` takes exponential time.
_MAX_REGEX_TEXT = 100
_QUANTIFIED_GROUP = re.compile(r"\)\s*[*+{?]")
_QUANTIFIER = re.compile(r"[*+{]|(?<!\()\?")


@dataclass(frozen=True, slots=True)
class _Broadcast:
    """An output that is sent to every input that fits."""

    origin: str
    origin_slot: int
    type: str
    priority: float
    fits: Callable[[str, str], bool]


def _is_broadcaster(node: Node) -> bool:
    return node.type.startswith("Anything Everywhere") or node.type in {_PROMPTS, _SEED}


def connect(graph: Graph, problems: Problems, notes: list[str], check: Callable[[], None]) -> None:
    """Make the links that the pack makes, where exactly one broadcast of the top rank fits.

    Args:
        graph: It is changed.
        problems: Takes what cannot be linked.
        notes: Takes what the caller may want to know.
        check: Raises when it is time to stop: each broadcast is compared with each input.
    """
    by_type: dict[str, list[_Broadcast]] = defaultdict(list)
    count = 0
    for node in graph.nodes.values():
        if node.mode == Mode.ALWAYS and _can_broadcast(node):
            for broadcast in _broadcasts(node, graph, problems):
                by_type[broadcast.type].append(broadcast)
                count += 1
    if count > MAX_BROADCASTS:
        message = f"has more than {MAX_BROADCASTS} broadcasts of cg-use-everywhere"
        problems.note({"path": graph.path, "message": message})
        return
    if by_type:
        _connect_inputs(graph, by_type, notes, check)
        _connect_ports(graph, by_type, check)


def _can_broadcast(node: Node) -> bool:
    return node.node_class is not None and (
        _is_broadcaster(node) or bool(node.properties.get("ue_convert"))
    )


def _connect_inputs(
    graph: Graph,
    by_type: dict[str, list[_Broadcast]],
    notes: list[str],
    check: Callable[[], None],
) -> None:
    for node in graph.nodes.values():
        if node.mode in {Mode.NEVER, Mode.BYPASS} or _is_broadcaster(node):
            continue
        if node.properties.get("rejects_ue_links"):
            continue
        for index, slot in enumerate(node.inputs):
            check()  # thousands may be linked behind one long chain of bypassed nodes
            if slot.type not in by_type or _is_connected(slot, graph):
                continue
            if _is_open(node, slot):
                others = (one for one in by_type[slot.type] if one.origin != node.id)
                best = _best(others, node.shown_title, slot.name, check)
                if len(best) > 1:
                    notes.append(
                        f"node {cut(node.id)} ({cut(node.type)}), input `{cut(slot.name)}`: "
                        "several broadcasts of cg-use-everywhere fit, so that the pack links none"
                    )
                elif best:
                    slot.link = _link(graph, best[0], node.id, index)


def _connect_ports(
    graph: Graph, by_type: dict[str, list[_Broadcast]], check: Callable[[], None]
) -> None:
    for index, port in enumerate(graph.outputs):
        if port.type in by_type and not any(link in graph.links for link in port.links):
            best = _best(by_type[port.type], "", port.name, check)
            if len(best) == 1:
                port.links = [_link(graph, best[0], OUTPUT_PANEL, index)]


def _link(graph: Graph, broadcast: _Broadcast, target: str, index: int) -> str:
    link = Link(
        f"everywhere:{target}:{index}",
        broadcast.origin,
        broadcast.origin_slot,
        target,
        index,
        broadcast.type,
    )
    graph.links[link.id] = link
    return link.id


def _best(
    candidates: Iterable[_Broadcast], title: str, input_name: str, check: Callable[[], None]
) -> list[_Broadcast]:
    """List those of the highest rank that fit."""
    fitting = []
    for one in candidates:
        check()  # each has regular expressions of the file
        if one.fits(title, input_name):
            fitting.append(one)
    rank = max((one.priority for one in fitting), default=0)
    return [one for one in fitting if one.priority == rank]


def _is_connected(slot: Slot, graph: Graph) -> bool:
    """Tell whether a link comes in that does not end at a bypassed node."""
    link = graph.links.get(slot.link) if slot.link is not None else None
    seen: set[str] = set()
    while link is not None and link.id not in seen:
        seen.add(link.id)
        node = graph.nodes.get(link.origin)
        if node is None or node.mode != Mode.BYPASS:
            return link.origin == INPUT_PANEL or node is not None
        same = [other for other in node.inputs if other.type == slot.type]
        index = link.origin_slot
        if index < len(node.inputs) and node.inputs[index].type == slot.type:
            same = [node.inputs[index]]
        link = graph.links.get(same[0].link or "") if same else None
    return False


def _is_open(node: Node, slot: Slot) -> bool:
    """Tell whether the pack may link an input; a widget's must be opened for it."""
    own = _settings(node)
    if slot.widget is None:
        closed = own.get("input_ue_unconnectable")
        return not (isinstance(closed, dict) and closed.get(slot.name))
    opened = own.get("widget_ue_connectable", node.properties.get("widget_ue_connectable"))
    if not isinstance(opened, dict):  # older than frontend 1.16: a widget that was made an input
        return any(stored.name == slot.name for stored in node.file_slots)
    return bool(opened.get(slot.name))


def _settings(node: Node) -> dict[str, Any]:
    """Read a node's settings; before version 7 they were properties and widgets."""
    own = node.properties.get("ue_properties")
    own = dict(own) if isinstance(own, dict) else {}
    if own.get("version") or not _is_broadcaster(node):
        return own
    stored = node.stored if isinstance(node.stored, list) and node.type != _SEED else []
    for key, value in zip(("title_regex", "input_regex", "group_regex"), stored, strict=False):
        own[key] = value
    for key in ("group_restricted", "color_restricted"):
        own[key] = node.properties.get(key)
    return own


def _broadcasts(node: Node, graph: Graph, problems: Problems) -> Iterator[_Broadcast]:
    own = _settings(node)
    sources = list(_sources(node, graph, own))
    if not sources:
        return
    limited = [key for key in _LIMITS if own.get(key) and own[key] != ".*"]
    if own.get("repeated_type_rule") == 4:  # names are regular expressions
        limited.append("repeated_type_rule")
    if limited:
        message = f"its broadcast is limited by {limited[0]}, which only the editor can tell"
        problems.note({**node.where(), "message": message})
        return
    if node.type == _SEED and not own.get("input_regex"):
        own["input_regex"] = "seed"
    patterns = _pattern(own, "title", node, problems), _pattern(own, "input", node, problems)
    repeated = {
        kind for kind, times in Counter(kind for _, _, kind, _ in sources).items() if times > 1
    }
    for origin, origin_slot, kind, label in sources:
        rule = None
        if kind in repeated or own.get("apply_to_unrepeated"):
            rule = (own.get("repeated_type_rule") or 0, label)
        fits = _Fits(*patterns, rule)
        priority = own.get("priority") or _rank(node, own, bool(repeated))
        if isinstance(priority, int | float):
            yield _Broadcast(origin, origin_slot, kind, priority, fits)


def _sources(node: Node, graph: Graph, own: dict[str, Any]) -> Iterator[tuple[str, int, str, str]]:
    """List what a node broadcasts: an output, its type, and the name of the node's input."""
    if node.type == _SEED or own.get("seed_inputs"):
        yield node.id, 0, "INT", ""
    elif node.properties.get("ue_convert"):
        silent = own.get("output_not_broadcasting")
        for index, kind in enumerate(node.outputs):
            if not (isinstance(silent, dict) and silent.get(kind)):
                yield node.id, index, kind, kind
    else:
        for slot in node.inputs:
            link = graph.links.get(slot.link) if slot.link is not None else None
            if link is not None and _is_live(link, graph):
                yield link.origin, link.origin_slot, _carried(link, graph), _label(node, slot)


def _label(node: Node, slot: Slot) -> str:
    """Name what comes in: a node for two prompts calls its inputs as it likes in old files."""
    if node.type != _PROMPTS:
        return slot.name
    links = [stored.link for stored in node.file_slots]
    place = links.index(slot.link) if slot.link in links else len(links)
    return ("positive", "negative")[place] if place < 2 else slot.name


def _is_live(link: Link, graph: Graph) -> bool:
    origin = graph.nodes.get(link.origin)
    return link.origin == INPUT_PANEL or (
        origin is not None and origin.mode not in {Mode.NEVER, Mode.BYPASS}
    )


def _carried(link: Link, graph: Graph) -> str:
    origin = graph.nodes.get(link.origin)
    if link.type and link.type != "*":
        return link.type
    types = origin.outputs if origin else [port.type for port in graph.inputs]
    return types[link.origin_slot] if link.origin_slot < len(types) else link.type


def _rank(node: Node, own: dict[str, Any], repeated: bool) -> int:
    # default_priority of js/ue_properties.js, without what limits to groups and colours add.
    rank = 20 if node.type in {_SEED, _PROMPTS} else 10
    return rank + 20 if repeated or own.get("title_regex") or own.get("input_regex") else rank


@dataclass(frozen=True, slots=True)
class _Fits:
    """Tells whether a broadcast is meant for an input, by the node's title and the input's name."""

    title: tuple[re.Pattern[str], bool] | None
    input: tuple[re.Pattern[str], bool] | None
    rule: tuple[Any, str] | None

    def __call__(self, title: str, input_name: str) -> bool:
        """Decide it."""
        for pattern, text in ((self.title, title), (self.input, input_name)):
            if pattern is not None:
                found = pattern[0].search(text[:_MAX_REGEX_TEXT]) is not None
                if found == pattern[1]:
                    return False
        if self.rule is None:
            return True
        kind, label = self.rule
        length = min(len(label), len(input_name))
        match kind:
            case 0:
                return input_name == label
            case 1:
                return input_name[:length] == label[:length]
            case 2:
                return input_name[len(input_name) - length :] == label[len(label) - length :]
            case _:
                return title == label


def _pattern(
    own: dict[str, Any], key: str, node: Node, problems: Problems
) -> tuple[re.Pattern[str], bool] | None:
    """Compile a regular expression of the file, if it cannot take long."""
    text = own.get(f"{key}_regex")
    if not isinstance(text, str) or text in {"", ".*"}:
        return None
    try:
        if len(_QUANTIFIER.findall(text)) > 3 or _QUANTIFIED_GROUP.search(text):
            raise re.error("too complex")  # noqa: TRY301
        return re.compile(text[:1000]), bool(own.get(f"{key}_regex_invert"))
    except re.error:
        message = f"its {key} regex {text[:100]!r} is one that this worker does not evaluate"
        problems.note({**node.where(), "message": message})
        return None
