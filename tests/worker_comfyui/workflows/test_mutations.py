"""Whatever is done to a file, the answer is a workflow or an error with a path, and comes soon."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.anything import places
from tests.worker_comfyui.workflows.pairs import circumstances, names, object_info, pair
from worker_comfyui.errors import Detail, InvalidRequest
from worker_comfyui.workflows import check, form
from worker_comfyui.workflows.api_format import checked
from worker_comfyui.workflows.editor.convert import convert

MAX_SECONDS = 20
"""Far above what any of them takes; loops without end take longer."""

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 30)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["*", "IMAGE", "-10", "-20", "0", 10**30, -(10**30)]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
Draw = st.DataObject
Json = dict[str, Any]


def graphs(file: Json) -> list[Json]:
    """The root and the definitions of a file, as far as they are objects."""
    sections = file.get("definitions")
    inner = sections.get("subgraphs") if isinstance(sections, dict) else None
    found = [file, *(inner if isinstance(inner, list) else [])]
    return [one for one in found if isinstance(one, dict)]


def nodes(file: Json) -> list[Json]:
    lists = [one.get("nodes") for one in graphs(file)]
    return [
        node for some in lists if isinstance(some, list) for node in some if isinstance(node, dict)
    ]


def links(file: Json) -> list[Any]:
    lists = [one.get("links") for one in graphs(file)]
    return [link for some in lists if isinstance(some, list) for link in some]


def remove_something(file: Json, data: Draw) -> None:
    holder, key = data.draw(st.sampled_from(places(file)))
    del holder[key]


def replace_something(file: Json, data: Draw) -> None:
    holder, key = data.draw(st.sampled_from(places(file)))
    holder[key] = data.draw(ANYTHING)


def swap_two(file: Json, data: Draw) -> None:
    one, other = data.draw(st.tuples(*[st.sampled_from(places(file))] * 2))
    one[0][one[1]], other[0][other[1]] = copy.deepcopy((other[0][other[1]], one[0][one[1]]))


def cut_values(file: Json, data: Draw) -> None:
    node = data.draw(st.sampled_from(nodes(file)))
    values = node.get("widgets_values")
    if isinstance(values, list):
        del values[data.draw(st.integers(0, len(values))) :]


def lead_links_elsewhere(file: Json, data: Draw) -> None:
    """Links to earlier or the same nodes make loops."""
    every = links(file)
    for link in data.draw(st.lists(st.sampled_from(every), max_size=5)) if every else []:
        target = data.draw(st.sampled_from(nodes(file))).get("id")
        if isinstance(link, list) and len(link) > 3:
            link[data.draw(st.sampled_from([1, 3]))] = target
        elif isinstance(link, dict):
            link[data.draw(st.sampled_from(["origin_id", "target_id"]))] = target


def change_modes(file: Json, data: Draw) -> None:
    for node in data.draw(st.lists(st.sampled_from(nodes(file)), max_size=6)):
        node["mode"] = data.draw(st.sampled_from([0, 1, 2, 3, 4, 4, 4]))


def change_classes(file: Json, data: Draw) -> None:
    types = [node.get("type") for node in nodes(file)]
    virtual = ["Reroute", "PrimitiveNode", "Note", "GetNode", "SetNode", "workflow>g"]
    for node in data.draw(st.lists(st.sampled_from(nodes(file)), max_size=4)):
        node["type"] = data.draw(st.sampled_from([*types, *virtual]))


def deepen(file: Json, data: Draw) -> None:
    """Put the whole file into subgraphs; now and then one that contains itself."""
    levels = data.draw(st.integers(1, 40))
    loop = data.draw(st.booleans())
    inner: Json = {key: file.pop(key) for key in ("nodes", "links") if key in file}
    sections = file.setdefault("definitions", {})
    definitions = sections.setdefault("subgraphs", []) if isinstance(sections, dict) else []
    if not isinstance(definitions, list):
        return
    for level in range(levels):
        definitions.append({"id": f"deep{level}", "name": "d", "inputs": [], "outputs": []} | inner)
        inner = {"nodes": [{"id": 1, "type": f"deep{level}"}], "links": []}
    if loop:
        first = definitions[-levels]
        there = first.get("nodes")  # an earlier mutation may have put anything there
        again = {"id": 99, "type": f"deep{levels - 1}"}
        first["nodes"] = [*(there if isinstance(there, list) else []), again]
    file.update(inner)


MUTATIONS: list[Callable[[Json, Draw], None]] = [
    remove_something,
    replace_something,
    swap_two,
    cut_values,
    lead_links_elsewhere,
    change_modes,
    change_classes,
    deepen,
]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from([name for name in names() if len(json.dumps(pair(name)[0])) < 40_000]),
    mutations=st.lists(st.sampled_from(MUTATIONS), min_size=1, max_size=4),
    data=st.data(),
)
def test_a_changed_file_is_converted_or_refused_with_a_path(
    name: str, mutations: list[Callable[[Json, Draw], None]], data: Draw
) -> None:
    file = copy.deepcopy(pair(name)[0])
    for mutate in mutations:
        if nodes(file):
            mutate(file, data)
    if not isinstance(file.get("nodes"), list):
        return
    before = json.dumps(file)
    start = time.perf_counter()
    details = problems(file, name)
    assert time.perf_counter() - start < MAX_SECONDS
    assert all(detail["path"].startswith("workflow") for detail in details)
    assert all(detail["message"] for detail in details)
    assert json.dumps(file) == before


def problems(file: Json, name: str) -> list[Detail]:
    """Convert a file, and return what is wrong with it; nothing but InvalidRequest is raised."""
    try:
        conversion = convert(file, object_info(name), circumstances())
        json.dumps(checked(conversion.workflow, "workflow"), allow_nan=False)
    except InvalidRequest as error:
        return error.details or [{"path": "", "message": ""}]
    return conversion.problems.details


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from([name for name in names() if len(json.dumps(pair(name)[0])) < 40_000]),
    data=st.data(),
)
def test_whatever_a_class_says_of_itself_its_nodes_are_converted_or_refused(
    name: str, data: Draw
) -> None:
    file, workflow = pair(name)
    info = object_info(name)
    classes = sorted({node["class_type"] for node in workflow.values() if "class_type" in node})
    changed = {one: copy.deepcopy(info[one]) for one in classes if one in info}
    for _ in range(data.draw(st.integers(1, 3))) if changed else ():
        replace_something(changed, data)
    told = {one: said for one, said in changed.items() if isinstance(said, dict)}
    odd = {**{one: said for one, said in info.items() if one not in changed}, **told}
    try:
        workflow = checked(convert(file, odd, circumstances()).workflow, "workflow")
    except InvalidRequest:
        return
    assert all(problem["message"] for problem in check.problems(workflow, odd))
    json.dumps(form.form_of(workflow, odd))
