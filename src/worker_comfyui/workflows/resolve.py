"""What was sent as a workflow → the API workflow that runs, and what there is to say about it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import Random, SystemRandom
from typing import Any

from worker_comfyui.errors import Detail, InvalidRequest
from worker_comfyui.job import Workflow
from worker_comfyui.wording import listed
from worker_comfyui.workflows import overrides as setting
from worker_comfyui.workflows.api_format import checked
from worker_comfyui.workflows.editor.convert import Circumstances, Conversion, convert
from worker_comfyui.workflows.editor.virtual import NOTES
from worker_comfyui.workflows.sent import Sent, Sources, unwrap
from worker_comfyui.workflows.values import Takes

MAX_NOTES = 20


@dataclass(frozen=True, slots=True)
class Resolved:
    """A workflow that is ready to run.

    Attributes:
        workflow: In the API format, with the overrides.
        graph: The editor's file that it comes from, for the metadata of results
            (`extra_pnginfo.workflow`); None if only the API format was sent.
        drawn: What `"random"` became, by `"<node id>.<input>"`.
        notes: What the caller may want to know.
        misfits: What to say of nodes whose values the file has from another version, by id.
        problems: With `lenient` only: why it must not run.
    """

    workflow: Workflow
    graph: Mapping[str, Any] | None = None
    drawn: Mapping[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    misfits: Mapping[str, str] = field(default_factory=dict)
    problems: list[Detail] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Options:
    """How a workflow is resolved.

    Attributes:
        sources: Where addresses and stored names lead to.
        overrides: As sent; None: there are none.
        known: Files that choices may name although ComfyUI does not list them yet.
        lenient: Return problems of the conversion instead of raising them (`dry_run`).
        random: Draws seeds and `{a|b}`.
        now: The time for `%date:...%`; None: this moment.
        check: Raises when it is time to stop; asked again and again.
    """

    sources: Sources = field(default_factory=Sources)
    overrides: Any = None
    known: Collection[str] = ()
    lenient: bool = False
    random: Random = field(default_factory=SystemRandom)
    now: datetime | None = None
    check: Callable[[], None] = lambda: None


ObjectInfo = Callable[[], Mapping[str, Any]]
"""Asks ComfyUI for its `/object_info`; called at most once, and only where it is needed."""


def resolve(sent: Any, object_info: ObjectInfo, options: Options | None = None) -> Resolved:
    """Make the workflow that runs.

    Args:
        sent: The request's `workflow`: either format, or one of the things in `sent`.
        object_info: Of the ComfyUI that will run it. An API workflow without overrides needs none.
        options: How to do it.

    Raises:
        InvalidRequest: it is no workflow, cannot be converted, or an override is wrong; each
            detail has the `path` in the request, and where it can the `node_id`, `class_type`,
            `title` and `input`.
        JobError: what reading an address raises.
        JobCancelled, TimedOut: what `options.check` raises.
    """
    options = options or Options()
    found = unwrap(sent, options.sources)
    info = _Once(object_info)
    resolved = _converted(found, info, options) if found.is_editor else _as_it_is(found)
    # An empty object is no reason to ask for /object_info, which is megabytes.
    if options.overrides is None or options.overrides == {}:
        return resolved
    changed = setting.apply(
        resolved.workflow,
        options.overrides,
        info(),
        Takes(resolved.workflow, options.known, options.random),
        options.check,
    )
    return replace(resolved, workflow=changed.workflow, drawn=changed.drawn)


class _Once:
    def __init__(self, ask: ObjectInfo) -> None:
        self._ask = ask
        self._answer: Mapping[str, Any] | None = None

    def __call__(self) -> Mapping[str, Any]:
        if self._answer is None:
            self._answer = self._ask()
        return self._answer


def _as_it_is(found: Sent) -> Resolved:
    return Resolved(checked(found.value, found.path), found.graph, notes=list(found.notes))


def _converted(found: Sent, info: _Once, options: Options) -> Resolved:
    # As in the editor, local time: TZ of the container.
    now = options.now or datetime.now().astimezone()
    circumstances = Circumstances(
        random=options.random, now=now, path=found.path, check=options.check
    )
    conversion = convert(found.value, info(), circumstances)
    if conversion.problems.details and not options.lenient:
        raise conversion.problems.error()
    if not conversion.workflow:
        message = "has no node that runs: all are notes, muted or bypassed, or there are none"
        if strange := sorted(_types(found.value) - {*info(), *NOTES}):
            message += f"; no node class here is called {listed(strange)}"
        raise InvalidRequest.at(found.path, message)
    return Resolved(
        # Values of the result have no place in the file, so not `found.path`.
        checked(conversion.workflow, "workflow"),
        found.value,
        notes=[*found.notes, *_notes(conversion)][:MAX_NOTES],
        misfits=conversion.misfits,
        problems=conversion.problems.details,
    )


def _types(file: Mapping[str, Any]) -> set[str]:
    """Return what the nodes of an editor's file call themselves."""
    types = (node.get("type") for node in file["nodes"] if isinstance(node, dict))
    return {one for one in types if isinstance(one, str)}


def _notes(conversion: Conversion) -> list[str]:
    notes = list(conversion.notes)
    for node_id, odd in conversion.misfits.items():
        notes.append(f"node {node_id} ({conversion.nodes[node_id].node.type}): {odd}")
    if conversion.randomized:
        example = conversion.randomized[0]
        notes.append(
            "the file would draw new seeds after each run in the editor "
            f"({', '.join(conversion.randomized[:10])}); here the stored ones run: send "
            f'`overrides` such as {{"{example}": "random"}} for new ones'
        )
    return notes
