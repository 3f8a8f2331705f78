"""`overrides`: set single inputs of a workflow, by node id, or by a title or class.

{"6.text": "a cat", "KSampler.seed": 42, "Positive prompt.text": "...", "3.seed": "random"}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from worker_comfyui.errors import Detail, InvalidRequest
from worker_comfyui.job import Workflow, title_of
from worker_comfyui.request.problems import Problems
from worker_comfyui.wording import cut, listed
from worker_comfyui.workflows.class_inputs import specs_of
from worker_comfyui.workflows.custom_combo import with_index
from worker_comfyui.workflows.editor.node_classes import InputSpec
from worker_comfyui.workflows.values import RANDOM, Takes, WrongValueError, with_candidates

MAX_OVERRIDES = 1_000
MAX_KEY = 1_000
"""Characters of `<node>.<input>`: each of its dots may be the one that is meant."""


@dataclass(frozen=True, slots=True)
class Overridden:
    """A workflow with its overrides.

    Attributes:
        workflow: A copy; what was not overridden is shared with the original.
        drawn: What `"random"` became, by `"<node id>.<input>"`.
    """

    workflow: Workflow
    drawn: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Target:
    node_id: str
    class_type: str
    spec: InputSpec | None
    input: str


def apply(
    workflow: Workflow,
    overrides: Any,
    object_info: Mapping[str, Any],
    takes: Takes,
    check: Callable[[], None] = lambda: None,
) -> Overridden:
    """Set inputs.

    Args:
        workflow: In the API format.
        overrides: As sent: an object of `"<node>.<input>": value`.
        object_info: Of the ComfyUI that will run it.
        takes: Checks the values.
        check: Raises when it is time to stop.

    Raises:
        InvalidRequest: with all problems: unknown or ambiguous names, wrong types, values out of
            range; each with its path and the candidates.
    """
    _check_shape(overrides)
    problems = Problems(InvalidRequest)
    found = _Finder(workflow, object_info, check)
    changed = dict(workflow)
    drawn: dict[str, int] = {}
    done: dict[tuple[str, str], str] = {}
    for key, value in overrides.items():
        path = f"overrides[{cut(key)!r}]"
        target = found.target(key, path, problems)
        if target is None:
            continue
        place = (target.node_id, target.input)
        if place in done:
            message = f"sets the same input as {done[place]!r}"
            problems.note(
                {"path": path, "node_id": place[0], "input": place[1], "message": message}
            )
            continue
        done[place] = key
        where: Detail = {"node_id": place[0], "class_type": target.class_type, "input": place[1]}
        try:
            result = takes.value(value, target.spec)
        except WrongValueError as error:
            problems.note({"path": path, **where, **error.detail})
            continue
        if value == RANDOM and isinstance(result, int):
            drawn[".".join(place)] = result
        node = changed[place[0]]
        inputs = {**node["inputs"], target.input: result}
        inputs = with_index(target.class_type, target.input, inputs)
        changed[place[0]] = {**node, "inputs": inputs}
    if problems.details:
        raise problems.error()
    return Overridden(changed, drawn)


def _check_shape(overrides: Any) -> None:
    if not isinstance(overrides, Mapping):
        raise InvalidRequest.at("overrides", 'must be an object such as {"6.text": "a cat"}')
    if len(overrides) > MAX_OVERRIDES:
        raise InvalidRequest.at("overrides", f"has more than {MAX_OVERRIDES} entries")


class _Finder:
    """Finds the input that a name such as `KSampler.seed` means."""

    def __init__(
        self, workflow: Workflow, object_info: Mapping[str, Any], check: Callable[[], None]
    ) -> None:
        self._check = check
        self._workflow = workflow
        self._object_info = object_info
        self._by_title: dict[str, list[str]] = {}
        self._by_class: dict[str, list[str]] = {}
        self._specs: dict[str, dict[str, InputSpec]] = {}
        for node_id, node in workflow.items():
            if title := title_of(node):
                self._by_title.setdefault(title, []).append(node_id)
            self._by_class.setdefault(node["class_type"], []).append(node_id)

    def target(self, key: str, path: str, problems: Problems) -> _Target | None:
        """Find the one input that is meant; ids come before titles, titles before classes."""
        if len(key) > MAX_KEY:
            message = f"is longer than {MAX_KEY:,} characters, and names no input"
            problems.note({"path": path, "message": message})
            return None
        named: list[tuple[str, list[str], str]] = []
        for name, input_name in _splits(key):
            self._check()
            for nodes in self._named(name):
                having = [node_id for node_id in nodes if self._has(node_id, input_name)]
                if len(having) == 1:
                    return self._target(having[0], input_name)
                named.append((name, having or nodes, input_name))
        problems.note({"path": path, **self._fault(key, named)})
        return None

    def _named(self, name: str) -> Iterator[list[str]]:
        if name in self._workflow:
            yield [name]
        for names in (self._by_title, self._by_class):
            if name in names:
                yield names[name]

    def _has(self, node_id: str, input_name: str) -> bool:
        return input_name in self._workflow[node_id]["inputs"] or input_name in self.specs(node_id)

    def specs(self, node_id: str) -> dict[str, InputSpec]:
        """List the inputs of a node's class."""
        if node_id not in self._specs:
            node = self._workflow[node_id]
            description = self._object_info.get(node["class_type"])
            if not isinstance(description, Mapping):
                description = {}
            self._specs[node_id] = specs_of(description, node["inputs"])
        return self._specs[node_id]

    def _target(self, node_id: str, input_name: str) -> _Target:
        spec = self.specs(node_id).get(input_name)
        return _Target(node_id, self._workflow[node_id]["class_type"], spec, input_name)

    def _fault(self, key: str, named: list[tuple[str, list[str], str]]) -> Detail:
        if "." not in key:
            return {"message": 'must name a node and its input: "6.text", "KSampler.seed"'}
        if not named:
            return self._no_node(key)
        name, nodes, input_name = named[0]
        if self._has(nodes[0], input_name):
            message = (
                f"{cut(name)!r} names {len(nodes)} nodes with `{cut(input_name)}`; use an id: "
            )
            candidates = [f"{node_id}.{input_name}" for node_id in nodes]
            return {"allowed": candidates[:10], "message": message + listed(candidates)}
        inputs = {**self._workflow[nodes[0]]["inputs"], **self.specs(nodes[0])}
        class_type = self._workflow[nodes[0]]["class_type"]
        message = f"node {nodes[0]} ({class_type}) has no input {cut(input_name)!r}"
        return with_candidates(message, input_name, inputs, "it has")

    def _no_node(self, key: str) -> Detail:
        name = key.rpartition(".")[0]
        names = [*self._workflow, *self._by_title, *self._by_class]
        message = f"no node has the id, title or class {cut(name)!r}"
        return with_candidates(message, name, dict.fromkeys(names), "there are")


def _splits(key: str) -> Iterator[tuple[str, str]]:
    """Split at each dot: titles, ids and inputs (`model.seed`) may have dots themselves."""
    index = key.find(".")
    while index >= 0:
        yield key[:index], key[index + 1 :]
        index = key.find(".", index + 1)
