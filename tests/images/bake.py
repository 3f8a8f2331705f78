"""Expands docker-bake.hcl as buildx does, as far as this project's file goes.

Matrix, inheritance, groups, and the functions that it has or calls. What it cannot evaluate raises
an error, so that a change of the file that goes beyond it is noticed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hcl2

Target = dict[str, Any]


def expand(path: Path, environ: Mapping[str, str]) -> tuple[dict[str, Target], dict[str, Any]]:
    """Return the targets and groups of a bake file, by name."""
    document = hcl2.loads(path.read_text(encoding="utf-8"))
    variables = {
        name: environ.get(name, _literal(body["default"]))
        for name, body in _blocks(document["variable"])
    }
    tag = next(body for name, body in _blocks(document["function"]) if name == "tag")
    raw: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    matrices: dict[str, list[str]] = {}
    for name, body in _blocks(document["target"]):
        matrix = {_plain(key): value for key, value in body.pop("matrix", {}).items()}
        matrix.pop("__is_block__", None)
        template = body.pop("name", f'"{name}"')
        matrices[name] = []
        for values in itertools.product(*matrix.values()):
            scope = (
                variables | {"_tag": tag} | dict(zip(matrix, map(_literal, values), strict=True))
            )
            made = str(_evaluate(template, scope))
            raw[made] = (body, scope)
            matrices[name].append(made)
    targets = {name: _resolve(name, raw) for name in raw}
    groups = {
        name: [
            made
            for target in map(_plain, body["targets"])
            for made in matrices.get(target, [target])
        ]
        for name, body in _blocks(document["group"])
    }
    return {name: target for name, target in targets.items() if name[0] != "_"}, groups


def members(group: str, groups: Mapping[str, list[str]]) -> list[str]:
    """The targets of a group, and of the groups in it."""
    return [
        target
        for name in groups[group]
        for target in (members(name, groups) if name in groups else [name])
    ]


def _blocks(blocks: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (_plain(name), {key: value for key, value in body.items() if not key.startswith("__")})
        for block in blocks
        for name, body in block.items()
        if not name.startswith("__")
    ]


def _resolve(name: str, raw: Mapping[str, tuple[dict[str, Any], dict[str, Any]]]) -> Target:
    body, scope = raw[name]
    own = {key: _evaluate(value, scope) for key, value in body.items()}
    result: Target = {}
    for source in [*(_resolve(parent, raw) for parent in own.pop("inherits", [])), own]:
        for key, value in source.items():
            merged = isinstance(value, dict)
            result[key] = {**result.get(key, {}), **value} if merged else value
    args = result.get("args", {})
    result["args"] = {key: value for key, value in args.items() if value is not None}
    return result


def _evaluate(value: Any, scope: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_evaluate(item, scope) for item in value]
    if isinstance(value, dict):
        return {
            _plain(key): _evaluate(item, scope)
            for key, item in value.items()
            if not key.startswith("__")
        }
    if not isinstance(value, str):
        return value
    if quoted := re.fullmatch(r'"(.*)"', value, re.DOTALL):
        return re.sub(
            r"\$\{((?:[^{}]|\{[^}]*\})*)\}",
            lambda found: str(_expression(found.group(1), scope)),
            quoted.group(1),
        )
    if whole := re.fullmatch(r"\$\{(.*)\}", value, re.DOTALL):
        return _expression(whole.group(1), scope)
    return _expression(value, scope)


def _expression(text: str, scope: Mapping[str, Any]) -> Any:
    text = text.strip()
    if call := re.fullmatch(r"(\w+)\((.*)\)", text, re.DOTALL):
        name, words = call.groups()
        arguments = [_expression(word, scope) for word in _split(words)]
        if name == "tag":
            inner = dict(scope) | {"suffix": arguments[0]}
            return [_expression(item[2:-1], inner) for item in scope["_tag"]["result"]]
        return _FUNCTIONS[name](*arguments)
    if text.startswith("["):
        return [_expression(word, scope) for word in _split(text[1:-1])]
    return _evaluate(text, scope) if text.startswith('"') else scope[text]


def _split(words: str) -> list[str]:
    """Split at the commas that are in no string, call or list."""
    found, depth, quoted = [""], 0, False
    for character in words:
        quoted ^= character == '"'
        if not quoted:
            depth += (character in "([") - (character in ")]")
        if character == "," and not depth and not quoted:
            found.append("")
        else:
            found[-1] += character
    return found


def _checked(name: str, pattern: str, value: str) -> str:
    if not re.search(pattern, value):
        raise ValueError(f"{name} is {value!r}, but must match {pattern}")
    return value


def _optional(name: str, pattern: str, value: str) -> str | None:
    return _checked(name, pattern, value) if value else None


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "checked": _checked,
    "optional": _optional,
    "join": lambda separator, parts: separator.join(parts),
    "replace": lambda subject, old, new: subject.replace(old, new),
}


def _literal(value: Any) -> Any:
    return _plain(value) if isinstance(value, str) else value


def _plain(text: str) -> str:
    return text[1:-1] if text.startswith('"') else text
