"""What the conversion does where the editor's own export is random, broken, or no guide."""

from __future__ import annotations

from typing import Any

import pytest

from tests.worker_comfyui.workflows.graphs import graph, inner_link, node, subgraph, text_to_image
from tests.worker_comfyui.workflows.pairs import NOW, circumstances, converted, object_info, pair
from worker_comfyui.errors import Detail, InvalidRequest
from worker_comfyui.workflows.editor.convert import Conversion, convert


def run(file: Any, *, pack: bool = False, seed: int = 0, **classes: Any) -> Conversion:
    info = object_info("pack." if pack else "") | classes
    return convert(file, info, circumstances(seed=seed))


def problems(file: Any, **more: Any) -> list[Detail]:
    return run(file, **more).problems.details


def refused(file: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        run(file)
    assert caught.value.details
    assert all("path" in detail for detail in caught.value.details)
    return caught.value


# Group nodes


def test_a_group_node_keeps_its_values() -> None:
    inputs = converted("group_slash").workflow["9:8"]["inputs"]
    assert inputs["sampler_name"] == "heun"
    assert inputs["scheduler"] == "karras"
    assert inputs["denoise"] == 0.5


def test_a_group_node_has_the_ids_and_links_of_the_editor() -> None:
    ours, theirs = converted("group_slash").workflow, pair("group_slash")[1]
    assert ours.keys() == theirs.keys()
    for node_id, sent in theirs.items():
        links = {k: v for k, v in sent["inputs"].items() if isinstance(v, list)}
        assert {k: v for k, v in ours[node_id]["inputs"].items() if isinstance(v, list)} == links


def group_file(values: list[Any], **more: Any) -> Any:
    inner = [
        {"type": "PrimitiveNode", "title": "Seed", "outputs": [{"type": "INT", "links": []}]},
        {
            "type": "KSampler",
            "title": "K",
            "inputs": [
                *({"name": name, "type": name} for name in ("model", "positive", "negative")),
                {"name": "latent_image", "type": "LATENT"},
                {"name": "seed", "type": "INT", "widget": {"name": "seed"}},
            ],
            "outputs": [{"type": "LATENT"}],
            "widgets_values": [1, "fixed", 10, 5, "euler", "normal", 1],
        },
    ]
    groups = {"g": {"nodes": inner, "links": [[0, 0, 1, 4, 0, "INT"]], "external": []} | more}
    return graph(
        node(1, "EmptyLatentImage", 64, 64, 1, gives=("LATENT",)),
        node(2, "workflow>g", *values, links={"latent_image": 1}, gives=("LATENT",)),
        node(3, "PreviewAny", links={"source": 2}, gives=("STRING",)),
        links=[[1, 1, 0, 2, 0, "LATENT"], [2, 2, 0, 3, 0, "LATENT"]],
        last_node_id=3,
        extra={"groupNodes": groups},
    )


def test_a_primitive_inside_a_group_owns_the_first_values() -> None:
    file = group_file([42, "fixed", 30, 3.5, "heun", "karras", 0.25])
    workflow = run(file).workflow
    assert workflow["6:5"]["inputs"] == {
        "seed": 42,
        "steps": 30,
        "cfg": 3.5,
        "sampler_name": "heun",
        "scheduler": "karras",
        "denoise": 0.25,
        "latent_image": ["1", 0],
    }
    assert workflow["3"]["inputs"] == {"source": ["6:5", 0]}


def test_a_short_list_of_a_group_leaves_the_values_inside() -> None:
    inputs = run(group_file([42, "fixed", 30])).workflow["6:5"]["inputs"]
    assert (inputs["steps"], inputs["cfg"]) == (30, 5)


def test_a_group_input_that_does_not_exist_is_refused() -> None:
    file = group_file([])
    file["nodes"][1]["inputs"][0]["name"] = "something else"
    (detail,) = refused(file).details
    assert detail["node_id"] == "2"
    assert detail["input"] == "something else"


def test_a_group_that_contains_itself_is_refused() -> None:
    file = group_file([])
    file["extra"]["groupNodes"]["g"]["nodes"].append({"type": "workflow>g"})
    assert "nested too deep" in str(refused(file))


# Text


def prompt_file(text: str) -> Any:
    file = text_to_image()
    file["nodes"][1]["widgets_values"] = [text]
    return file


def test_alternatives_are_drawn() -> None:
    drawn = {
        run(prompt_file("a {red|green} {cat|{big|small} dog}"), seed=seed).workflow["2"]["inputs"][
            "text"
        ]
        for seed in range(60)
    }
    assert drawn == {
        f"a {color} {animal}"
        for color in ("red", "green")
        for animal in ("cat", "big dog", "small dog")
    }


def test_comments_are_taken_out_and_escaped_braces_stay() -> None:
    text = r"a /* not this */ \{cat\} // nor this"
    assert run(prompt_file(text)).workflow["2"]["inputs"]["text"] == "a  {cat} "


def test_braces_without_end_are_refused() -> None:
    assert "nested deeper" in str(refused(prompt_file("{" * 5000)))


def test_a_date_in_a_file_name_is_the_worker_s_time() -> None:
    file = text_to_image()
    file["nodes"][6]["widgets_values"] = ["%date:yyyy-MM-dd_hhmmss%/%KSampler.steps%_%width%"]
    prefix = run(file).workflow["7"]["inputs"]["filename_prefix"]
    assert prefix == f"{NOW:%Y-%m-%d_%H%M%S}/20_%width%"


# Values


def test_large_integers_stay_exact() -> None:
    assert converted("w_bigseed").workflow["1"]["inputs"]["seed"] == 18446744073709551615


def test_a_missing_value_of_a_video_node_is_its_default() -> None:
    inputs = converted("pack.vhs_combine_dict_missing").workflow["2"]["inputs"]
    assert inputs["loop_count"] == 0
    assert inputs["crf"] == 19


@pytest.mark.parametrize(
    ("value", "target", "name", "result"),
    [
        ("many", 3, "width", None),
        (701, 3, "width", 704),
        (None, 4, "scheduler", "simple"),
        ("karras", 4, "scheduler", "karras"),
        (0.333333, 4, "denoise", 0.33),
    ],
)
def test_a_primitive_gives_what_the_editor_makes_of_its_value(
    value: Any, target: int, name: str, result: Any
) -> None:
    primitive = node(9, "PrimitiveNode", value)
    primitive["outputs"][0]["links"] = [20]
    file = text_to_image()
    file["nodes"].append(primitive)
    file["nodes"][target]["inputs"].append({"name": name, "type": "*", "link": 20})
    file["links"].append([20, 9, 0, file["nodes"][target]["id"], 0, "*"])
    workflow = run(file).workflow
    assert workflow[str(file["nodes"][target]["id"])]["inputs"][name] == result


def test_values_by_name_are_assigned_by_name() -> None:
    file = text_to_image()
    file["nodes"][4]["widgets_values"] = {"steps": 9, "seed": 5, "unknown": 1}
    inputs = run(file).workflow["5"]["inputs"]
    assert (inputs["steps"], inputs["seed"], inputs["cfg"]) == (9, 5, 8)


def test_null_is_an_empty_text_where_text_has_lines() -> None:
    file = prompt_file("")
    file["nodes"][1]["widgets_values"] = [None]
    file["nodes"][6]["widgets_values"] = [None]
    workflow = run(file).workflow
    assert workflow["2"]["inputs"]["text"] == ""
    assert workflow["7"]["inputs"]["filename_prefix"] is None


def test_a_combo_of_several_choices_begins_with_none_of_them() -> None:
    which = ["COMBO", {"options": ["a", "b"], "multiselect": True, "multi_select": {}}]
    several = {"input": {"required": {"which": which}}, "output": [], "output_node": True}
    sent = run(graph(node(1, "Several")), Several=several).workflow
    assert sent["1"]["inputs"] == {"which": {"__value__": []}}


def test_null_among_the_links_is_passed_over() -> None:
    assert converted("link_null").workflow.keys() == {"1", "2", "3", "4", "5", "6", "7"}


def test_seeds_that_the_editor_would_draw_anew_are_named() -> None:
    assert run(text_to_image()).randomized == ["5.seed"]


# Nodes that cannot be converted


def test_an_unknown_class_names_its_pack() -> None:
    file = text_to_image()
    file["nodes"][3] |= {
        "type": "Fancy Latent",
        "title": "My latent",
        "properties": {"cnr_id": "fancy-pack", "ver": "1.2.3"},
    }
    (detail,) = problems(file)
    assert detail == {
        "path": "workflow.nodes[3]",
        "node_id": "4",
        "class_type": "Fancy Latent",
        "title": "My latent",
        "pack": "fancy-pack 1.2.3",
        "message": "this ComfyUI has no class 'Fancy Latent'; "
        "the file names its pack: fancy-pack 1.2.3",
    }


def test_an_unknown_class_of_comfyui_itself_asks_for_a_newer_one() -> None:
    file = text_to_image()
    file["nodes"][3] |= {"type": "NewNode", "properties": {"cnr_id": "comfy-core", "ver": "9.9"}}
    assert problems(file)[0]["message"].endswith("the file needs comfy-core 9.9")


@pytest.mark.parametrize("mode", [2, 4])
def test_an_unknown_class_that_does_not_run_is_harmless(mode: int) -> None:
    file = text_to_image()
    file["nodes"].append(node(9, "Fancy", mode=mode, links={"x": None}))
    assert problems(file) == []


def test_an_unknown_class_without_inputs_and_outputs_is_decoration() -> None:
    file = text_to_image()
    file["nodes"].append(node(9, "Fancy Label", "hello", gives=()))
    assert problems(file) == []
    assert "9" not in run(file).workflow


def test_nodes_that_work_in_the_browser_are_refused() -> None:
    file = text_to_image()
    file["nodes"].append(node(9, "VHS_SelectLatest", "a", "b", gives=("STRING",)))
    assert "chosen in the browser" in problems(file)[0]["message"]


def test_a_repeater_that_makes_copies_is_refused() -> None:
    file = graph(
        node(1, "PrimitiveInt", 3, "fixed", gives=("INT",)),
        node(2, "Repeater|pysssss", 2, "multi", "create", links={"source": 1}),
        node(3, "PreviewAny", links={"source": 2}, gives=()),
        links=[[1, 1, 0, 2, 0, "INT"], [2, 2, 0, 3, 0, "*"]],
    )
    assert "copies are made in the browser" in problems(file, pack=True)[0]["message"]


def test_a_kind_of_input_from_a_later_editor_is_refused_by_name() -> None:
    later = {"input": {"required": {"rows": ["COMFY_DYNAMICGROUP_V3", {}]}}, "output": []}
    with pytest.raises(InvalidRequest, match="COMFY_DYNAMICGROUP_V3"):
        run(graph(node(1, "Later")), Later=later)


# Broken files


def test_a_link_that_is_missing_names_node_and_input() -> None:
    file = text_to_image()
    del file["links"][2]
    (detail,) = problems(file)
    assert (detail["node_id"], detail["input"]) == ("5", "model")
    assert detail["path"] == "workflow.nodes[4]"


@pytest.mark.parametrize("link", [[3, None, 0, 5, 0], [3, 1, "x", 5, 0], [3, 1, -1, 5, 0]])
def test_a_link_without_ends_is_one_that_is_missing(link: Any) -> None:
    file = text_to_image()
    file["links"][2] = link
    (detail,) = problems(file)
    assert (detail["node_id"], detail["input"]) == ("5", "model")


def test_a_link_from_a_missing_node_names_it() -> None:
    file = text_to_image()
    del file["nodes"][3]
    (detail,) = problems(file)
    assert "node 4, which the file does not have" in detail["message"]


def test_bypassed_nodes_in_a_circle_are_refused() -> None:
    file = graph(
        node(1, "ImageInvert", mode=4, links={"image": 2}, gives=("IMAGE",)),
        node(2, "ImageInvert", mode=4, links={"image": 1}, gives=("IMAGE",)),
        node(3, "PreviewImage", links={"images": 3}, gives=()),
        links=[[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 1, 0, "IMAGE"], [3, 2, 0, 3, 0, "IMAGE"]],
    )
    (detail,) = problems(file)
    assert detail["message"] == "its links go in a circle"
    assert detail["node_id"] == "3"


def nested(levels: int, inside: str = "") -> Any:
    """Subgraphs in subgraphs; the last one has a picture, or `inside`."""
    definitions = []
    for level in range(levels):
        last = level == levels - 1
        inner = (
            node(1, inside or "EmptyImage", 64, 64, 1, 0)
            if last
            else node(1, f"s{level + 1}", gives=("IMAGE",))
        )
        outputs = [{"name": "IMAGE", "type": "IMAGE", "linkIds": [1]}]
        link = inner_link(1, (1, 0), (-20, 0))
        definitions.append(subgraph(f"s{level}", inner, links=[link], inputs=[], outputs=outputs))
    return graph(
        node(1, "s0", gives=("IMAGE",)),
        node(2, "PreviewImage", links={"images": 1}, gives=()),
        links=[[1, 1, 0, 2, 0, "IMAGE"]],
        definitions={"subgraphs": definitions},
    )


def test_deep_subgraphs_are_converted() -> None:
    workflow = run(nested(100)).workflow
    source = workflow["2"]["inputs"]["images"][0]
    assert source.count(":") == 100
    assert workflow[source]["class_type"] == "EmptyImage"


def test_subgraphs_that_are_too_deep_are_refused() -> None:
    assert "nested deeper than 100 levels" in str(refused(nested(101)))


def test_a_subgraph_that_contains_itself_is_refused() -> None:
    assert "contains itself" in str(refused(nested(3, inside="s0")))


def test_subgraphs_that_multiply_are_refused() -> None:
    file = nested(40)
    for definition in file["definitions"]["subgraphs"][:-1]:
        copies = [definition["nodes"][0] | {"id": number} for number in (1, 2, 3)]
        definition["nodes"] = copies
    assert "more than 100000 nodes in its subgraphs" in str(refused(file))


def test_too_many_nodes_are_refused() -> None:
    assert "more than 100000 entries" in str(refused(graph(*[node(1, "Note")] * 100_001)))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"nodes": [5]}, "workflow.nodes[0]"),
        ({"nodes": [{"id": 1}]}, "workflow.nodes[0].type"),
        ({"nodes": [{"type": "A"}]}, "workflow.nodes[0].id"),
        ({"nodes": [{"id": True, "type": "A"}]}, "workflow.nodes[0].id"),
        ({"nodes": [{"id": 1, "type": "A", "mode": "x"}]}, "workflow.nodes[0].mode"),
        ({"nodes": [{"id": 1, "type": "A", "inputs": {}}]}, "workflow.nodes[0].inputs"),
        (
            {"nodes": [{"id": 1, "type": "A", "widgets_values": 3}]},
            "workflow.nodes[0].widgets_values",
        ),
        ({"links": {}}, "workflow.links"),
        ({"links": ["x"]}, "workflow.links[0]"),
        ({"links": [[1, 2]]}, "workflow.links[0]"),
        ({"definitions": 3}, "workflow.definitions"),
        ({"definitions": {"subgraphs": [{}]}}, "workflow.definitions.subgraphs[0].id"),
        ({"extra": {"groupNodes": 3}}, "workflow.extra.groupNodes"),
    ],
)
def test_a_wrong_shape_is_refused_with_its_path(change: Any, path: str) -> None:
    assert refused(text_to_image() | change).details[0]["path"] == path


# cg-use-everywhere


def everywhere(**properties: Any) -> Any:
    file = text_to_image()
    file["nodes"][1]["inputs"][0]["link"] = None
    file["nodes"][2]["inputs"][0]["link"] = None
    file["nodes"].append(
        node(9, "Anything Everywhere", links={"anything": 1}, gives=(), properties=properties)
    )
    file["links"][0] = [1, 1, 1, 9, 0, "CLIP"]
    return file


def test_a_broadcast_reaches_every_unlinked_input_of_its_type() -> None:
    workflow = run(everywhere(), pack=True).workflow
    assert workflow["2"]["inputs"]["clip"] == ["1", 1]
    assert workflow["3"]["inputs"]["clip"] == ["1", 1]


def test_a_broadcast_is_not_in_the_editor_s_export() -> None:
    conversion = convert(everywhere(), object_info("pack."), circumstances(queued=False))
    assert "clip" not in conversion.workflow["2"]["inputs"]


def test_a_broadcast_goes_by_titles_and_names() -> None:
    settings = {"version": "7.8", "title_regex": "^Neg", "input_regex": "clip"}
    workflow = run(everywhere(ue_properties=settings), pack=True).workflow
    assert "clip" not in workflow["2"]["inputs"]
    assert workflow["3"]["inputs"]["clip"] == ["1", 1]


def test_two_broadcasts_of_a_rank_link_nothing_and_say_so() -> None:
    file = everywhere()
    file["nodes"].append(node(10, "Anything Everywhere", links={"anything": 20}, gives=()))
    file["links"].append([20, 1, 1, 10, 0, "CLIP"])
    conversion = run(file, pack=True)
    assert "clip" not in conversion.workflow["2"]["inputs"]
    assert "several broadcasts" in conversion.notes[0]


def test_of_two_broadcasts_the_higher_rank_wins() -> None:
    file = everywhere()
    other = {"ue_properties": {"version": "7.8", "priority": 99}}
    file["nodes"].append(
        node(10, "Anything Everywhere", links={"anything": 20}, gives=(), properties=other)
    )
    file["nodes"].append(node(11, "CLIPLoader", "c", "sd3", "default", gives=("CLIP",)))
    file["links"].append([20, 11, 0, 10, 0, "CLIP"])
    assert run(file, pack=True).workflow["2"]["inputs"]["clip"] == ["11", 0]


def test_a_seed_is_broadcast_to_inputs_that_were_opened_for_it() -> None:
    file = text_to_image()
    opened = {"ue_properties": {"version": "7.8", "widget_ue_connectable": {"seed": True}}}
    file["nodes"][4]["properties"] = opened
    file["nodes"].append(node(9, "Seed Everywhere", 3, "fixed", gives=("INT",)))
    assert run(file, pack=True).workflow["5"]["inputs"]["seed"] == ["9", 0]


def test_two_prompts_of_an_old_file_are_told_apart_by_their_order() -> None:
    file = text_to_image()
    for slot in file["nodes"][4]["inputs"][1:3]:
        slot["link"] = None
    # Version 4 named both inputs after what came in.
    prompts = node(9, "Prompts Everywhere", gives=())
    for link, origin in ((4, 2), (5, 3)):
        prompts["inputs"].append({"name": "CONDITIONING", "type": "*", "link": link})
        file["links"][link - 1] = [link, origin, 0, 9, link - 4, "CONDITIONING"]
    file["nodes"].append(prompts)
    inputs = run(file, pack=True).workflow["5"]["inputs"]
    assert (inputs["positive"], inputs["negative"]) == (["2", 0], ["3", 0])


@pytest.mark.parametrize(
    "limit", [{"group_restricted": 1}, {"color_restricted": 2}, {"group_regex": "x"}]
)
def test_a_broadcast_that_the_canvas_limits_is_refused(limit: Any) -> None:
    file = everywhere(ue_properties={"version": "7.8"} | limit)
    (detail,) = problems(file, pack=True)
    assert detail["node_id"] == "9"
    assert "only the editor can tell" in detail["message"]


def test_a_regex_that_could_take_forever_is_not_evaluated() -> None:
    file = everywhere(ue_properties={"version": "7.8", "title_regex": "(a+)+$"})
    assert "does not evaluate" in problems(file, pack=True)[0]["message"]
