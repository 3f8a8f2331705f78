"""The conversion equals the editor's own export, pair by pair."""

from __future__ import annotations

import pytest

from tests.worker_comfyui.workflows.pairs import compared, converted, load, names, pair

UNKNOWN_CLASSES = {
    "group_unknown": {"workflow>nope"},
    "missing_class": {"NoSuchNode"},
    "missing_class_sanitized": {'No<Such>&"Node'},
    "sub_missing_def2": {"ba10b5b8-a599-59a6-b653-958db0888a4c"},
    "templates_rob_realistic_2k_images_quick_variations.app": {"AILab_QwenVL", "ImageRemoveAlpha+"},
}
"""The editor exports these nodes without a class, which ComfyUI refuses; so does the worker."""

BETTER = {
    "group_slash": "the editor shifts the values of group nodes",
    "link_null": "the editor opens an empty graph for a null among the links",
    "pack.vhs_combine_dict_missing": "the editor leaves out a required input whose default is 0",
    "w_bigseed": "the editor rounds integers above 2^53",
}
"""Where the editor's export is broken; what the worker does is in test_editor_rules.py."""


def test_the_exceptions_are_among_the_pairs() -> None:
    assert {*UNKNOWN_CLASSES, *BETTER} <= set(names())
    assert len(names()) == 337


@pytest.mark.parametrize("name", [n for n in names() if n not in {*UNKNOWN_CLASSES, *BETTER}])
def test_equals_the_export_of_the_editor(name: str) -> None:
    conversion = converted(name)
    assert conversion.problems.details == []
    assert compared(conversion.workflow) == compared(pair(name)[1])


@pytest.mark.parametrize("name", UNKNOWN_CLASSES)
def test_names_unknown_classes_and_converts_the_rest_as_the_editor_does(name: str) -> None:
    conversion = converted(name)
    problems = conversion.problems.details
    assert {problem["class_type"] for problem in problems} == UNKNOWN_CLASSES[name]
    assert all({"path", "node_id", "message"} <= problem.keys() for problem in problems)
    unknown = {problem["node_id"] for problem in problems}
    ours, theirs = compared(conversion.workflow), compared(pair(name)[1])
    assert {k: v for k, v in ours.items() if k not in unknown} == {
        k: v for k, v in theirs.items() if k not in unknown
    }
    assert ours.keys() == theirs.keys()


@pytest.mark.parametrize("name", sorted(load("templates").keys() - UNKNOWN_CLASSES.keys()))
def test_nodes_and_inputs_of_a_template_have_the_editor_s_order(name: str) -> None:
    ours, theirs = converted(name).workflow, pair(name)[1]
    assert list(ours) == list(theirs)
    for node_id, node in theirs.items():
        assert list(ours[node_id]["inputs"]) == list(node["inputs"])


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("templates")])
def test_titles_are_those_of_the_file(name: str) -> None:
    conversion = converted(name)
    for node_id, emitted in conversion.nodes.items():
        title = conversion.workflow[node_id]["_meta"]["title"]
        assert title == (emitted.node.title or title)
        assert title
