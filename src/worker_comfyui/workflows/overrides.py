"""`overrides`: set single inputs of a workflow, by node id, or by a title or class.

{"6.text": "a cat", "KSampler.seed": 42, "Positive prompt.text": "...", "3.seed": "random"}
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from worker_comfyui.errors import Detail
from worker_comfyui.job import Workflow
from worker_comfyui.node_problems import is_link
from worker_comfyui.workflows.class_inputs import specs_of
from worker_comfyui.workflows.editor.node_classes import COMBO, InputSpec
from worker_comfyui.workflows.problems import Problems, cut, listed

RANDOM = "random"
MAX_OVERRIDES = 1_000
MAX_DRAWN = 2**53 - 1
"""Where a class states no bound; the largest integer that every reader of JSON keeps."""


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
    *,
    random: Random,
    known: Collection[str] = (),
) -> Overridden:
    """Set inputs.

    Args:
        workflow: In the API format.
        overrides: As sent: an object of `"<node>.<input>": value`.
        object_info: Of the ComfyUI that will run it.
        random: Draws for `"random"`.
        known: Files that a choice may name although ComfyUI does not list them yet: those that
            come with the request, and models that will be fetched.

    Raises:
        InvalidRequest: with all problems: unknown or ambiguous names, wrong types, values out of
            range; each with its path and the candidates.
    """
    problems = Problems()
    _check_shape(overrides, problems)
    found = _Finder(workflow, object_info)
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
            problems.add({"path": path, "node_id": place[0], "input": place[1], "message": message})
            continue
        done[place] = key
        setting = _Setting(workflow, target, known, random)
        detail, result = setting.value(value)
        if detail is not None:
            where = {"node_id": place[0], "class_type": target.class_type, "input": place[1]}
            problems.add({"path": path, **where, **detail})
            continue
        if setting.is_drawn:
            drawn[".".join(place)] = result
        node = changed[place[0]]
        changed[place[0]] = {**node, "inputs": {**node["inputs"], place[1]: result}}
    if problems.details:
        raise problems.error()
    return Overridden(changed, drawn)


def _check_shape(overrides: Any, problems: Problems) -> None:
    message = ""
    if not isinstance(overrides, Mapping):
        message = 'must be an object such as {"6.text": "a cat"}'
    elif len(overrides) > MAX_OVERRIDES:
        message = f"has more than {MAX_OVERRIDES} entries"
    if message:
        problems.add({"path": "overrides", "message": message})
        raise problems.error()


class _Finder:
    """Finds the input that a name such as `KSampler.seed` means."""

    def __init__(self, workflow: Workflow, object_info: Mapping[str, Any]) -> None:
        self._workflow = workflow
        self._object_info = object_info
        self._by_title: dict[str, list[str]] = {}
        self._by_class: dict[str, list[str]] = {}
        self._specs: dict[str, dict[str, InputSpec]] = {}
        for node_id, node in workflow.items():
            meta = node.get("_meta")
            title = meta.get("title") if isinstance(meta, Mapping) else None
            if isinstance(title, str) and title:
                self._by_title.setdefault(title, []).append(node_id)
            self._by_class.setdefault(node["class_type"], []).append(node_id)

    def target(self, key: str, path: str, problems: Problems) -> _Target | None:
        """Find the one input that is meant; ids come before titles, titles before classes."""
        named: list[tuple[str, list[str], str]] = []
        for name, input_name in _splits(key):
            for nodes in self._named(name):
                having = [node_id for node_id in nodes if self._has(node_id, input_name)]
                if len(having) == 1:
                    return self._target(having[0], input_name)
                named.append((name, having or nodes, input_name))
        problems.add({"path": path, **self._fault(key, named)})
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
            known = isinstance(description, Mapping)
            self._specs[node_id] = specs_of(description, node["inputs"]) if known else {}
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
        return _with_candidates(message, input_name, inputs, "it has")

    def _no_node(self, key: str) -> Detail:
        name = key.rpartition(".")[0]
        names = [*self._workflow, *self._by_title, *self._by_class]
        message = f"no node has the id, title or class {cut(name)!r}"
        return _with_candidates(message, name, dict.fromkeys(names), "there are")


def _with_candidates(message: str, wanted: str, names: Collection[str], there: str) -> Detail:
    close = difflib.get_close_matches(cut(wanted), [cut(name) for name in names], n=1, cutoff=0.6)
    if close:
        return {"did_you_mean": close[0], "message": f"{message}; did you mean {close[0]!r}?"}
    return {"message": f"{message}; {there} {listed(names)}" if names else message}


def _splits(key: str) -> Iterator[tuple[str, str]]:
    """Split at each dot: titles, ids and inputs (`model.seed`) may have dots themselves."""
    index = key.find(".")
    while index >= 0:
        yield key[:index], key[index + 1 :]
        index = key.find(".", index + 1)


class _Setting:
    """Checks one value against what its input takes."""

    def __init__(
        self, workflow: Workflow, target: _Target, known: Collection[str], random: Random
    ) -> None:
        self._workflow = workflow
        self._spec = target.spec
        self._known = known
        self._random = random
        self.is_drawn = False

    def value(self, value: Any) -> tuple[Detail | None, Any]:
        """Return what is wrong, or the value as it is set."""
        if is_link(value):
            if value[0] in self._workflow and isinstance(value[1], int):
                return None, value
            return {"message": f"is a link to node {cut(value[0])}, which does not exist"}, None
        if value is None:
            return {"message": "must be a value, not null"}, None
        spec = self._spec
        if spec is None:
            return None, _wrapped(value)
        if not spec.is_widget:
            return {
                "allowed": spec.type,
                "message": f"takes {spec.type}, which only a link can give: "
                '["<node id>", <output>]',
            }, None
        if value == RANDOM and spec.type == "INT":
            return self._draw(spec)
        if spec.type == COMBO:
            return self._choice(value, spec)
        return _typed(value, spec)

    def _draw(self, spec: InputSpec) -> tuple[Detail | None, Any]:
        if not spec.has_control:
            message = "cannot be drawn: `random` is for seeds (control_after_generate)"
            return {"allowed": "INT", "message": message}, None
        self.is_drawn = True
        low, high = _bound(spec, "min", 0), _bound(spec, "max", MAX_DRAWN)
        return None, self._random.randint(low, max(low, high))

    def _choice(self, value: Any, spec: InputSpec) -> tuple[Detail | None, Any]:
        if value in spec.choices or spec.options.get("remote"):
            return None, value
        if spec.options.get("multi_select") and isinstance(value, list):
            return None, _wrapped(value)
        if isinstance(value, str) and value in self._known:
            return None, value
        choices = [str(choice) for choice in spec.choices]
        message = f"is {cut(value)!r}, which is not among the choices"
        detail = _with_candidates(message, str(value), choices, "there are")
        return {"received": cut(value), "allowed": choices[:10], **detail}, None


def _bound(spec: InputSpec, key: str, default: int) -> int:
    value = spec.options.get(key)
    return int(value) if isinstance(value, int | float) else default


def _typed(value: Any, spec: InputSpec) -> tuple[Detail | None, Any]:
    types: dict[str, tuple[type, ...]] = {
        "INT": (int,),
        "FLOAT": (int, float),
        "STRING": (str,),
        "BOOLEAN": (bool,),
    }
    if spec.type == "INT" and isinstance(value, float) and value.is_integer():
        value = int(value)
    wanted = types.get(spec.type)
    if wanted is None:
        return None, _wrapped(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and spec.type != "BOOLEAN"):
        message = f"is {cut(repr(value))}, but takes {spec.type}"
        return {"received": cut(value), "allowed": spec.type, "message": message}, None
    low, high = spec.options.get("min"), spec.options.get("max")
    below = isinstance(low, int | float) and not isinstance(value, str) and value < low
    above = isinstance(high, int | float) and not isinstance(value, str) and value > high
    if below or above:
        parts = [f"at least {low}"] if low is not None else []
        bounds = " and ".join(parts + ([f"at most {high}"] if high is not None else []))
        message = f"is {value}, but must be {bounds}"
        return {"received": value, "allowed": bounds, "message": message}, None
    return None, value


def _wrapped(value: Any) -> Any:
    """Wrap a list, which ComfyUI would take for a link."""
    return {"__value__": value} if isinstance(value, list) else value
