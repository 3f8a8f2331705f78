"""ComfyUI's answer to a refused prompt → an error that a caller can act on.

Shapes of the answers: ComfyUI 0.3.64 execution.py (validate_prompt), recorded in
test_resources/comfyui/transcripts/prompt_refused.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from typing import Any

from worker_comfyui.comfyui.entry import mapping, word
from worker_comfyui.comfyui.node_problems import Lookup, node_problems
from worker_comfyui.errors import Detail, PromptRejected
from worker_comfyui.job import Workflow, is_link
from worker_comfyui.wording import LIKELY_CLASS, cut, likely

MAX_DETAILS = 50
EDITOR_ONLY = frozenset(
    ("Note", "MarkdownNote", "Reroute", "PrimitiveNode", "SetNode", "GetNode", "Reroute (rgthree)")
)
"""Nodes that the editor resolves before it sends anything."""


def explain(answer: dict[str, Any], lookup: Lookup) -> PromptRejected:
    """Make the error for an answer of POST /prompt other than 200 (`{}` where it had no JSON)."""
    error = mapping(answer.get("error"))
    loops = _loops(error, lookup.workflow)
    told = {"dependency_cycle"} if loops else set()
    details = [
        *_unknown_classes(error, lookup),
        *loops,
        *node_problems(answer.get("node_errors"), lookup, told=told),
    ]
    return rejected(details or [{"message": _general(error)}])


def rejected(details: list[Detail]) -> PromptRejected:
    """Make the error of one or more problems."""
    return PromptRejected.of(details[:MAX_DETAILS], len(details[MAX_DETAILS:]))


def _unknown_classes(error: dict[str, Any], lookup: Lookup) -> list[Detail]:
    """Name every node whose class is unknown; ComfyUI names the first one only."""
    # The second since ComfyUI 0.12.0.
    if word(error.get("type")) not in {"invalid_prompt", "missing_node_type"}:
        return []
    wanted: dict[str, list[str]] = {}
    for node_id, node in lookup.workflow.items():
        wanted.setdefault(str(node.get("class_type")), []).append(node_id)
    known = dict.fromkeys(lookup.node_classes())
    # A class whose description fails is not in the list, but it exists.
    unlisted = (name for name in wanted if name not in known and lookup.node_class(name) is None)
    details: list[Detail] = []
    for name in islice(unlisted, MAX_DETAILS):
        reason = _why_unknown(name, known, _only_in_comfyui(error))
        details += [
            {"node_id": cut(node_id), "class_type": cut(name), **reason} for node_id in wanted[name]
        ]
    return details


def _only_in_comfyui(error: dict[str, Any]) -> dict[str, str]:
    """Return what local_comfyui says of ComfyUI's own classes that it lacks, by class."""
    info = mapping(error.get("extra_info"))
    names, hint = info.get("only_in_comfyui"), str(info.get("hint"))
    return {str(name): hint for name in names} if isinstance(names, list) else {}


def _why_unknown(name: str, known: Iterable[str], only_in_comfyui: Mapping[str, str]) -> Detail:
    if name in only_in_comfyui:
        return {"message": cut(only_in_comfyui[name])}
    if name in EDITOR_ONLY:
        return {
            "message": f"{name} exists in ComfyUI's editor only, and no API export has it: send "
            "the editor's own file (File → Save) as `workflow`, or export it again with File → "
            "Export (API)"
        }
    message = (
        "the node class does not exist here: a custom node that is not installed, or failed to "
        "load (see the worker's log)"
    )
    close = likely(name, known, at_least=LIKELY_CLASS)
    if close is None:
        lacks = "one of ComfyUI's own that this one, being older or a stand-in, does not have"
        return {"message": f"{message}, or {lacks}"}
    return {"did_you_mean": close, "message": f"{message}; did you mean {close!r}?"}


def _loops(error: dict[str, Any], workflow: Workflow) -> list[Detail]:
    """Show the links that form a loop, which ComfyUI refuses without saying why before 0.20.0."""
    if word(error.get("type")) not in {"prompt_outputs_failed_validation", "dependency_cycle"}:
        return []
    links = {
        node_id: [str(v[0]) for v in node.get("inputs", {}).values() if is_link(v)]
        for node_id, node in workflow.items()
    }
    try:
        TopologicalSorter(links).prepare()
    except CycleError as cycle:
        loop = cycle.args[1][::-1]  # graphlib names what comes first before what needs it
        return [
            {
                "node_id": cut(loop[0]),
                "class_type": cut(workflow[loop[0]].get("class_type")),
                "message": cut(f"the links form a loop: {' ← '.join(loop)}"),
            }
        ]
    return []


def _general(error: dict[str, Any]) -> str:
    kind = error.get("type")
    if kind == "prompt_no_outputs":
        return "the workflow has no output node, such as SaveImage, so there is nothing to run"
    message, details = str(error.get("message") or ""), str(error.get("details") or "")
    if not message:
        return "ComfyUI could not read the workflow (see ComfyUI's lines in the worker's log)"
    return cut(f"{message} {details}".strip())
