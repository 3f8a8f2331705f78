"""Text that the editor changes when it exports: `%Node.widget%`, `%date:...%` and `{a|b}`.

Frontend utils/searchAndReplace.ts, extensions/core/saveImageExtraOutput.ts,
packages/shared-frontend-utils/src/formatUtil.ts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from random import Random
from typing import Any

from worker_comfyui.errors import InvalidRequest
from worker_comfyui.workflows.editor import javascript
from worker_comfyui.workflows.editor.graph import UNSET, Graph, Node

NAMED_AFTER = "Node name for S&R"
_SAVING_CLASSES = frozenset(
    {
        "SaveImage",
        "SaveImageAdvanced",
        "SaveSVGNode",
        "SaveVideo",
        "SaveAnimatedWEBP",
        "SaveWEBM",
        "SaveAudio",
        "SaveAudioMP3",
        "SaveAudioOpus",
        "SaveAudioAdvanced",
        "SaveGLB",
        "Save3DAdvanced",
        "SaveGaussianSplat",
        "SavePointCloud",
        "SaveAnimatedPNG",
        "CLIPSave",
        "VAESave",
        "ModelSave",
        "LoraSave",
        "SaveLatent",
    }
)
SAVING_CLASSES = _SAVING_CLASSES | {"VHS_VideoCombine"}
"""Classes in whose `filename_prefix` text is replaced: by the editor, or by the pack's own code."""
MAX_BRACES = 100
"""The editor has no bound; here each level is a call."""

_PATTERN = re.compile(r"%([^%]+)%")
_DATE = re.compile(r"dd?|MM?|hh?|mm?|ss?|yyy?y?")
_UNSAFE = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')
# Not `.`, which ends at fewer characters in Python than in JavaScript.
_LINE_COMMENT = re.compile(r"//[^\n\r\u2028\u2029]*")
_LINE = re.compile(r"[^\n\r\u2028\u2029]*")
_ESCAPED = re.compile(r"\\([{}|])")


class Replacements:
    """Replaces `%...%` by what a graph's nodes hold, and by the time of the export."""

    def __init__(self, graph: Graph, now: datetime) -> None:
        self._graph = graph
        self._now = now
        self._by_name: dict[str, Node] | None = None
        self._by_title: dict[str, Node] = {}

    def replaced(self, text: str) -> str:
        """Replace what is known; the rest stays, since ComfyUI knows `%width%` and the like."""
        return _PATTERN.sub(self._one, text) if "%" in text else text

    def _one(self, match: re.Match[str]) -> str:
        parts = match[1].split(".")
        # The editor asks it first, so a date with exactly one dot in it is none.
        if len(parts) != 2:
            is_date = parts[0].startswith("date:")
            return format_date(parts[0][5:], self._now) if is_date else match[0]
        node = self._node(parts[0])
        value = _value(node, parts[1]) if node else UNSET
        if value is UNSET:
            return match[0]
        return _UNSAFE.sub("_", "" if value is None else javascript.text(value))

    def _node(self, name: str) -> Node | None:
        if self._by_name is None:
            self._by_name = {}
            for node in _inner_first(self._graph):
                own_name = node.properties.get(NAMED_AFTER, _default_name(node))
                if isinstance(own_name, str):
                    self._by_name.setdefault(own_name, node)
                self._by_title.setdefault(node.shown_title, node)
        return self._by_name.get(name) or self._by_title.get(name)


def _default_name(node: Node) -> str | None:
    # The editor gives all classes but those the property (saveImageExtraOutput.ts).
    return node.type if node.node_class and node.type not in _SAVING_CLASSES else None


def _value(node: Node, name: str) -> Any:
    if node.definition is not None:
        slot = node.slot(name)
        return slot.value if slot is not None and slot.promoted else UNSET
    widget = node.widget(name)
    if widget is None:
        return UNSET
    return None if widget.value is UNSET else widget.value


def _inner_first(graph: Graph) -> Iterator[Node]:
    """Walk all nodes, those of a subgraph before its host; each definition once."""
    # Nodes of a second host are the same ones, and the first match counts.
    seen = {id(graph)}
    stack = [iter(graph.listed)]
    hosts: list[Node] = []
    while stack:
        node = next(stack[-1], None)
        if node is None:
            stack.pop()
            if hosts:
                yield hosts.pop()
        elif node.definition is not None and id(node.definition) not in seen:
            seen.add(id(node.definition))
            stack.append(iter(node.definition.listed))
            hosts.append(node)
        else:
            yield node


def format_date(date_format: str, now: datetime) -> str:
    """Write a date; every letter of d, M, h, m, s and y is replaced, wherever it stands."""
    parts = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def one(match: re.Match[str]) -> str:
        text = match[0]
        if text[0] == "y":
            return {"yyyy": f"{now.year}", "yy": f"{now.year}"[2:]}.get(text, text)  # yyy stays
        return f"{parts[text[0]]:0{len(text)}}"

    return _DATE.sub(one, date_format)


def draw(text: str, random: Random, node: Node) -> str:
    """Take out comments, and draw one of the alternatives of each `{a|b}`.

    Raises:
        InvalidRequest: braces are nested without an end.
    """
    return _draw(text, random, node, 0)


def _draw(text: str, random: Random, node: Node, depth: int) -> str:
    if depth > MAX_BRACES:
        message = f"has braces nested deeper than {MAX_BRACES} levels in a text"
        raise InvalidRequest.of([{**node.where(), "message": message}])
    text = _without_comments(text)  # of each alternative anew, as the editor does
    parts: list[str] = []
    index = 0
    while index < len(text):
        char = text[index]
        index += 1
        if char == "\\":
            parts.append(_escape(text, index))
            index += 1
        elif char == "{":
            choices, index = _choices(text, index)
            drawn = random.choice(choices)  # nosec B311  # a prompt, no secret
            parts.append(_draw(drawn, random, node, depth + 1))
        else:
            parts.append(char)
    return _ESCAPED.sub(r"\1", "".join(parts))


def _without_comments(text: str) -> str:
    """Take out `/* ... */`, and `//` up to the end of its line. Found by search: no regex."""
    parts: list[str] = []
    position = 0
    while (start := text.find("/", position)) >= 0:
        kind, end = text[start : start + 2], -1
        if kind == "/*":
            end = text.find("*/", start + 2)
            if end < 0:  # so for all that follow
                head, rest = text[position:start], text[start:]
                return "".join((*parts, head, _LINE_COMMENT.sub("", rest)))
            end += 2
        elif kind == "//":
            line = _LINE.match(text, start)
            end = line.end() if line else len(text)
        parts.append(text[position : start if end >= 0 else start + 1])
        position = end if end >= 0 else start + 1
    return "".join((*parts, text[position:]))


def _escape(text: str, index: int) -> str:
    # JavaScript writes what is behind the end of a text so.
    return "\\" + (text[index] if index < len(text) else "undefined")


def _choices(text: str, index: int) -> tuple[list[str], int]:
    """Read up to the closing brace; one that is missing stands at the text's end."""
    choices: list[str] = []
    parts: list[str] = []
    depth = 0
    while index < len(text):
        char = text[index]
        index += 1
        if char == "\\":
            parts.append(_escape(text, index))
            index += 1
            continue
        if char == "}" and not depth:
            break
        if char == "|" and not depth:
            choices.append("".join(parts))
            parts = []
            continue
        depth += {"{": 1, "}": -1}.get(char, 0)
        parts.append(char)
    choices.append("".join(parts))
    return choices, index
