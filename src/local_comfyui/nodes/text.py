"""Nodes for values and texts: primitives, string tools, the preview of anything."""

from __future__ import annotations

import functools
import json
import operator
import re
from typing import Any

from local_comfyui.nodes.core_node import CoreNodes, NodeContext
from local_comfyui.prompt import Json

NODES = CoreNodes()


@NODES.node("PrimitiveString")
@NODES.node("PrimitiveStringMultiline")
@NODES.node("PrimitiveInt")
@NODES.node("PrimitiveFloat")
@NODES.node("PrimitiveBoolean")
def primitive(_context: NodeContext, value: Any) -> Any:
    """The value itself."""
    return (value,)


@NODES.node("PreviewAny")
def preview_any(_context: NodeContext, source: Any = None) -> Json:
    """Anything as text: strings as they are, else JSON, else Python's own words."""
    if source is None or isinstance(source, str | bool | int | float):
        return {"ui": {"text": [str(source)]}}
    try:
        return {"ui": {"text": [json.dumps(source)]}}
    except (TypeError, ValueError):
        return {"ui": {"text": [str(source)]}}


@NODES.node("StringConcatenate")
def concatenate(_context: NodeContext, string_a: str, string_b: str, delimiter: str) -> str:
    """Both strings, with the delimiter in between."""
    return delimiter.join((string_a, string_b))


@NODES.node("StringSubstring")
def substring(_context: NodeContext, string: str, start: int, end: int) -> str:
    """The part from ``start`` up to ``end``."""
    return string[start:end]


@NODES.node("StringLength")
def length(_context: NodeContext, string: str) -> int:
    """The number of characters."""
    return len(string)


@NODES.node("CaseConverter")
def convert_case(_context: NodeContext, string: str, mode: str) -> str:
    """The string in another case."""
    changes = {
        "UPPERCASE": str.upper,
        "lowercase": str.lower,
        "Capitalize": str.capitalize,
        "Title Case": str.title,
    }
    return changes[mode](string) if mode in changes else string


@NODES.node("StringTrim")
def trim(_context: NodeContext, string: str, mode: str) -> str:
    """The string without white space at its ends."""
    changes = {"Both": str.strip, "Left": str.lstrip, "Right": str.rstrip}
    return changes[mode](string) if mode in changes else string


@NODES.node("StringReplace")
def replace(_context: NodeContext, string: str, find: str, replace: str) -> str:
    """The string with every occurrence replaced."""
    return string.replace(find, replace)


@NODES.node("StringContains")
def contains(_context: NodeContext, string: str, substring: str, case_sensitive: bool) -> bool:
    """Whether one string is in the other."""
    if case_sensitive:
        return substring in string
    return substring.lower() in string.lower()


@NODES.node("StringCompare")
def compare(
    _context: NodeContext,
    string_a: str,
    string_b: str,
    mode: str,
    case_sensitive: bool,
) -> bool:
    """Whether the first string is, starts with or ends with the second."""
    first, second = (string_a, string_b) if case_sensitive else (string_a.lower(), string_b.lower())
    if mode == "Starts With":
        return first.startswith(second)
    if mode == "Ends With":
        return first.endswith(second)
    return first == second


def _flags(*, case_insensitive: bool, multiline: bool, dotall: bool) -> re.RegexFlag:
    wanted = {
        re.IGNORECASE: case_insensitive,
        re.MULTILINE: multiline,
        re.DOTALL: dotall,
    }
    return functools.reduce(
        operator.or_, (flag for flag, on in wanted.items() if on), re.RegexFlag(0)
    )


@NODES.node("RegexMatch")
def regex_match(_context: NodeContext, string: str, regex_pattern: str, **flags: bool) -> bool:
    """Whether the pattern is found; a broken pattern is not."""
    try:
        return re.search(regex_pattern, string, _flags(**flags)) is not None
    except re.error:
        return False


@NODES.node("RegexExtract")
def regex_extract(
    _context: NodeContext,
    string: str,
    regex_pattern: str,
    mode: str,
    group_index: int,
    **flags: bool,
) -> str:
    """What the pattern finds: matches or groups, several of them line by line."""
    try:
        matches = list(re.finditer(regex_pattern, string, _flags(**flags)))
    except re.error:
        return ""
    if mode == "First Match":
        return matches[0][0] if matches else ""
    if mode == "All Matches":
        return "\n".join(match[0] for match in matches)
    groups = [match[group_index] or "" for match in matches if len(match.groups()) >= group_index]
    if mode == "First Group":
        return groups[0] if groups else ""
    return "\n".join(groups)


@NODES.node("RegexReplace")
def regex_replace(
    _context: NodeContext,
    string: str,
    regex_pattern: str,
    replace: str,
    count: int = 0,
    **flags: bool,
) -> str:
    """The string with what the pattern finds replaced; a count of 0 replaces all.

    Raises:
        re.error: The pattern is broken.
    """
    defaults = {"case_insensitive": True, "multiline": False, "dotall": False}
    return re.sub(regex_pattern, replace, string, count=count, flags=_flags(**(defaults | flags)))
