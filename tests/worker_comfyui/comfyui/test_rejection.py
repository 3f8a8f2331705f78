"""What a caller is told about a refused prompt, from the answers of a real ComfyUI."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from worker_comfyui.comfyui.file_problems import outside
from worker_comfyui.comfyui.node_problems import (
    MAX_OPTIONS,
    Lookup,
    NodeClass,
    node_problems,
)
from worker_comfyui.comfyui.rejection import MAX_DETAILS, explain
from worker_comfyui.errors import Detail, PromptRejected
from worker_comfyui.wording import LIKELY_CLASS, MAX_TEXT, likely

RECORDED = Path(__file__).resolve().parents[3] / "test_resources" / "comfyui"
CLASSES: dict[str, dict[str, Any]] = json.loads((RECORDED / "object_info.json").read_text())
REFUSALS = [
    (exchange["request"]["body"], exchange["response"])
    for exchange in json.loads((RECORDED / "transcripts" / "prompt_refused.json").read_text())[
        "http"
    ]
    if exchange["request"]["path"] == "/prompt"
]
Inputs = dict[str, Any]


def explained(answer: Any, workflow: Any) -> PromptRejected:
    return explain(answer, lookup(workflow))


def lookup(workflow: Any, node_class: NodeClass = CLASSES.get, **more: Any) -> Lookup:
    return Lookup(workflow, node_class, lambda: CLASSES, **more)


def recorded(class_type: str, **inputs: Any) -> PromptRejected:
    """The explanation of the recorded refusal of a workflow with such a node."""
    for body, response in REFUSALS:
        workflow = body.get("prompt") if isinstance(body, dict) else None
        nodes = workflow.values() if isinstance(workflow, dict) else ()
        if any(
            node.get("class_type") == class_type and inputs.items() <= node["inputs"].items()
            for node in nodes
        ):
            return explained(response["body"], workflow)
    raise LookupError(class_type)


def recorded_as(kind: str) -> list[PromptRejected]:
    """The explanations of all recorded refusals of a kind."""
    return [
        explained(response["body"], body["prompt"])
        for body, response in REFUSALS
        if f'"type": "{kind}"' in json.dumps(response["body"])
    ]


def refused(
    kind: str, workflow: dict[str, Any] | None = None, *, node_id: str = "1", **info: Any
) -> Detail:
    """The detail for one problem of one node."""
    class_type = info.pop("class_type", "KSampler")
    problem = {"type": kind, "message": "M", "details": "D", "extra_info": info}
    errors = {node_id: {"errors": [problem], "class_type": class_type, "dependent_outputs": []}}
    nodes = workflow or {node_id: {"class_type": class_type, "inputs": {}}}
    (detail,) = node_problems(errors, lookup(nodes))
    return detail


def test_what_may_be_the_cause_of_all_is_said_once_for_a_node() -> None:
    problem = {"type": "x", "message": "M", "details": "D"}
    nodes = {name: {"class_type": "KSampler", "inputs": {}} for name in ("1", "2")}
    errors = {name: {"errors": [problem] * 2, "class_type": "KSampler"} for name in nodes}
    details = node_problems(errors, replace(lookup(nodes), misfits={"2": "it is old"}))
    assert [detail["message"] for detail in details] == ["M: D", "M: D", "M: D; it is old", "M: D"]


def test_all_recorded_refusals_are_explained() -> None:
    assert len(REFUSALS) == 17
    for body, response in REFUSALS:
        assert response["status"] in {400, 500}
        workflow = body.get("prompt") if isinstance(body, dict) else None
        answer = response["body"]
        error = explained(
            answer if isinstance(answer, dict) else {},
            workflow if isinstance(workflow, dict) else {},
        )
        assert error.code == "PROMPT_REJECTED"
        assert error.details
        assert all(detail["message"] for detail in error.details)
        assert "Traceback" not in error.message
        assert "/comfyui/" not in str(error.as_result())
        assert "\n" not in error.message


def test_an_unknown_class_is_named() -> None:
    error = recorded("NoSuchNode")
    assert error.message == (
        "node 1 (NoSuchNode): the node class does not exist here: a custom node that is not "
        "installed, or failed to load (see the worker's log), or one of ComfyUI's own that this "
        "one, being older or a stand-in, does not have"
    )
    assert error.details[0]["node_id"] == "1"


def test_a_missing_image_is_named() -> None:
    error = recorded("LoadImage", image="missing.png")
    message = "there is no input file 'missing.png': send it in `images` under this name"
    assert error.message == f"node 1 (LoadImage), input `image`: {message}"
    assert error.details[0] == {
        "node_id": "1",
        "class_type": "LoadImage",
        "input": "image",
        "received": "missing.png",
        "message": message,
    }


@pytest.mark.parametrize(
    ("sent", "end"),
    [
        (["photo.jpg", "mask.png"], "; did you mean 'photo.jpg', which was sent?"),
        (["other.webp"], "; sent were 'other.webp'"),
        ([f"{n}.webp" for n in range(12)], "'8.webp', '9.webp' and 2 more"),
        (["photo.png"], "Invalid image file: photo.png"),  # it was there: ComfyUI knows better
    ],
)
def test_an_image_that_was_not_sent_is_compared_with_those_that_were(
    sent: list[str], end: str
) -> None:
    detail = not_found("LoadImage", "image", "photo.png", "Invalid image file: photo.png", sent)
    assert detail["message"].endswith(end)
    assert detail.get("did_you_mean") == ("photo.jpg" if "photo.jpg" in sent else None)


@pytest.mark.parametrize(
    ("class_type", "name", "field"),
    [
        ("LoadImageMask", "image", "images"),
        ("LoadAudio", "audio", "files"),
        ("LoadVideo", "file", "files"),
    ],
)
def test_a_missing_file_belongs_in_the_field_for_its_kind(
    class_type: str, name: str, field: str
) -> None:
    detail = not_found(class_type, name, "a.bin", "Invalid file: a.bin", [])
    assert detail["message"].endswith(f"send it in `{field}` under this name")


def test_a_file_name_without_end_is_cut() -> None:
    name = "x" * 20_000_000
    detail = not_found("LoadImage", "image", name, "Invalid image file", ["photo.png"])
    assert len(detail["message"]) < 2 * MAX_TEXT


@pytest.mark.parametrize("value", ["a.png", "a.png [input]"])
def test_a_loader_of_another_folder_takes_what_is_sent(value: str) -> None:
    detail = not_found("LoadImageOutput", "image", value, "Invalid image file", [])
    message = "there is no input file 'a.png': send it in `images` under this name"
    assert detail["message"] == message


def not_found(class_type: str, name: str, value: str, said: str, sent: list[str]) -> Detail:
    """The detail for a loader whose file ComfyUI does not find."""
    info = {"input_name": name}
    problem = {
        "type": "custom_validation_failed",
        "message": "Custom validation failed for node",
        "details": f"{name} - {said}",
        "extra_info": info,
    }
    errors = {"1": {"errors": [problem], "class_type": class_type}}
    workflow = {"1": {"class_type": class_type, "inputs": {name: value}}}
    (detail,) = node_problems(errors, lookup(workflow, sent=sent))
    return detail


def test_a_missing_model_where_there_are_none_is_said_to_be_that() -> None:
    error = recorded("CheckpointLoaderSimple")
    assert error.details[0]["received"] == "missing.safetensors"
    assert error.details[0]["allowed"] == []
    assert "there are none, so the models of this kind are missing" in error.message


def test_a_missing_input_is_named_with_what_it_takes() -> None:
    (detail,) = recorded("SaveImage", filename_prefix="x").details
    assert detail == {
        "node_id": "2",
        "class_type": "SaveImage",
        "input": "images",
        "allowed": "IMAGE",
        "message": "is required, but missing: it takes IMAGE",
    }


def test_a_link_to_an_output_that_the_node_does_not_have_is_named() -> None:
    (detail,) = recorded("SaveImage", images=["1", 5]).details
    assert detail == {
        "node_id": "2",
        "class_type": "SaveImage",
        "input": "images",
        "received": ["1", 5],
        "allowed": "0 to 0",
        "message": "is linked to output 5 of node 1 (EmptyImage), which has 1 (counted from 0)",
    }


def test_a_link_to_a_node_that_is_not_there_is_named() -> None:
    (detail,) = recorded("SaveImage", images=["9", 0]).details
    assert detail["input"] == "images"
    assert detail["received"] == ["9", 0]
    assert detail["message"] == "is linked to node 9, which the workflow does not have"


def test_of_several_links_the_wrong_one_is_named() -> None:
    workflow = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a"}},
        "2": {"class_type": "VAEDecode", "inputs": {"samples": ["1", 1], "vae": ["1", 3]}},
    }
    detail = refused("exception_during_validation", workflow, node_id="2", class_type="VAEDecode")
    assert detail["input"] == "vae"
    assert detail["allowed"] == "0 to 2"


def test_an_exception_while_validating_that_is_no_link_s_fault_keeps_comfyui_s_words() -> None:
    assert refused("exception_during_validation")["message"] == "M: D"


def test_a_value_of_the_wrong_type_is_named_with_the_right_one() -> None:
    (detail,) = recorded("EmptyImage", width="wide").details
    assert detail["input"] == "width"
    assert detail["received"] == "wide"
    assert detail["allowed"] == "INT"
    assert detail["message"].startswith("is 'wide', but takes INT: invalid literal")


def test_a_value_out_of_its_bounds_is_named_with_them() -> None:
    error = recorded("EmptyImage", width=1000000000)
    assert error.message == (
        "node 1 (EmptyImage), input `width`: is 1000000000, but must be at least 1 and at most "
        "16384"
    )
    assert error.details[0]["received"] == 1000000000
    assert error.details[0]["allowed"] == "at least 1 and at most 16384"


def test_a_value_below_its_minimum_is_named_also_without_a_maximum() -> None:
    detail = refused(
        "value_smaller_than_min",
        input_name="seed",
        input_config=["INT", {"min": 0}],
        received_value=-1,
    )
    assert detail["message"] == "is -1, but must be at least 0"


def test_a_link_of_the_wrong_type_is_named_with_both_types() -> None:
    ((detail,),) = [error.details for error in recorded_as("return_type_mismatch")]
    assert (detail["input"], detail["received"], detail["allowed"]) == ("images", "LATENT", "IMAGE")
    assert detail["message"] == "is linked to an output of type LATENT, but takes IMAGE"


def test_a_workflow_without_an_output_says_so() -> None:
    assert [error.message for error in recorded_as("prompt_no_outputs")] == [
        "the workflow has no output node, such as SaveImage, so there is nothing to run"
    ] * 2


def test_a_loop_is_shown() -> None:
    error = recorded("ImageInvert")
    assert error.message == "node 2 (ImageInvert): the links form a loop: 2 ← 3 ← 2"


def test_a_loop_named_by_later_versions_is_shown_too() -> None:
    workflow = {"1": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}}}
    error = explained({"error": {"type": "dependency_cycle", "message": "M"}}, workflow)
    assert error.message == "node 1 (ImageInvert): the links form a loop: 1 ← 1"


def test_a_loop_that_later_versions_report_at_each_of_its_nodes_is_told_once() -> None:
    """As ComfyUI 0.33.0 answers."""
    invert = "ImageInvert"
    workflow = {
        "1": {"class_type": invert, "inputs": {"image": ["2", 0]}},
        "2": {"class_type": invert, "inputs": {"image": ["1", 0]}},
    }
    problem = {
        "type": "dependency_cycle",
        "message": "Dependency cycle detected",
        "details": "2 (ImageInvert) -> 1 (ImageInvert) -> 2 (ImageInvert)",
        "extra_info": {},
    }
    node = {"errors": [problem], "dependent_outputs": ["3"], "class_type": invert}
    refused = {"type": "prompt_outputs_failed_validation", "message": "M"}
    error = explained({"error": refused, "node_errors": {"2": node, "1": node}}, workflow)
    assert error.message == "node 1 (ImageInvert): the links form a loop: 1 ← 2 ← 1"


def test_the_missing_node_of_later_versions_is_named() -> None:
    workflow = {"7": {"class_type": "KSamplr", "inputs": {}}}
    error = explained({"error": {"type": "missing_node_type", "message": "M"}}, workflow)
    assert error.details == [
        {
            "node_id": "7",
            "class_type": "KSamplr",
            "did_you_mean": "KSampler",
            "message": "the node class does not exist here: a custom node that is not installed, "
            "or failed to load (see the worker's log); did you mean 'KSampler'?",
        }
    ]


def test_every_unknown_class_is_named_not_only_the_first() -> None:
    workflow = {name: {"class_type": f"Foreign{name}", "inputs": {}} for name in ("1", "2", "3")}
    error = explained({"error": {"type": "invalid_prompt", "message": "M"}}, workflow)
    assert [detail["class_type"] for detail in error.details] == [
        "Foreign1",
        "Foreign2",
        "Foreign3",
    ]
    assert "(and 2 more problems, see `details`)" in error.message


def test_a_class_that_is_not_listed_but_exists_is_not_called_unknown() -> None:
    workflow = {"1": {"class_type": "Shy", "inputs": {}}}
    error = explain(
        {"error": {"type": "invalid_prompt", "message": "Refused."}},
        Lookup(workflow, lambda name: {} if name == "Shy" else None, lambda: ["KSampler"]),
    )
    assert error.message == "Refused."


LONG = [f"model-{number:04}.safetensors" for number in range(500)]


def test_a_long_list_of_choices_is_cut_with_its_count() -> None:
    detail = refused(
        "value_not_in_list", input_name="x", input_config=[LONG, {}], received_value="?"
    )
    assert detail["allowed"] == LONG[:MAX_OPTIONS]
    assert detail["allowed_count"] == 500
    assert detail["message"].endswith(" and 490 more")
    assert "did_you_mean" not in detail


def test_the_closest_choice_is_named() -> None:
    detail = refused(
        "value_not_in_list",
        input_name="x",
        input_config=[LONG, {}],
        received_value="model-0321.safetensor",
    )
    assert detail["did_you_mean"] == "model-0321.safetensors"
    assert detail["message"] == (
        "is 'model-0321.safetensor', which is not among the choices; did you mean "
        "'model-0321.safetensors'?"
    )
    assert detail["allowed_count"] == 500


def test_choices_that_comfyui_leaves_out_of_its_answer_are_looked_up() -> None:
    detail = refused(
        "value_not_in_list", input_name="sampler_name", input_config=None, received_value="eular"
    )
    assert detail["did_you_mean"] == "euler"


def test_choices_of_newer_nodes_are_read() -> None:
    detail = refused(
        "value_not_in_list",
        input_name="x",
        input_config=["COMBO", {"options": ["low", "high"]}],
        received_value="hihg",
    )
    assert detail["allowed"] == ["low", "high"]
    assert detail["did_you_mean"] == "high"


def test_choices_that_nobody_knows_are_left_out() -> None:
    detail = refused("value_not_in_list", class_type="Foreign", input_name="x", received_value="y")
    assert detail["message"] == "is 'y', which is not among the choices"


def test_a_problem_of_an_unknown_kind_keeps_comfyui_s_words() -> None:
    assert refused("something_new", input_name="x")["message"] == "M: D"
    assert refused("something_new")["message"] == "M: D"


def test_an_answer_without_json_is_explained() -> None:
    error = explained({}, {})
    assert error.message.startswith("ComfyUI could not read the workflow")


@pytest.mark.parametrize(
    "answer",
    [
        {"error": None, "node_errors": None},
        {"error": "text", "node_errors": []},
        {"error": {}, "node_errors": {"1": None, "2": {"errors": None}, "3": {"errors": [None]}}},
        {"error": {"type": 5, "message": 6, "details": 7}, "node_errors": {}},
        {"error": {"type": [], "message": {}, "details": []}, "node_errors": {}},
        {"error": {"type": {}, "extra_info": []}, "node_errors": {"1": {"errors": 5}}},
        {"error": {}, "node_errors": {"1": {"class_type": [], "errors": [{"type": []}]}}},
        {
            "error": {},
            "node_errors": {
                "1": {"errors": [{"type": {}, "extra_info": {"input_name": [], "input_config": 5}}]}
            },
        },
        {"error": {}, "node_errors": {"1": {"errors": [{}]}}},
        {"error": {}, "node_errors": {"1": {"errors": [{"extra_info": []}]}}},
        {
            "error": {},
            "node_errors": {
                "1": {
                    "errors": [
                        {
                            "type": "value_bigger_than_max",
                            "extra_info": {"input_name": 5, "input_config": ["INT", None]},
                        },
                        {
                            "type": "value_not_in_list",
                            "extra_info": {"input_name": "x", "input_config": "text"},
                        },
                        {
                            "type": "return_type_mismatch",
                            "extra_info": {"input_name": "x", "input_config": []},
                        },
                    ]
                }
            },
        },
    ],
)
def test_an_answer_of_an_odd_shape_is_explained_as_far_as_it_goes(answer: dict[str, Any]) -> None:
    error = explained(answer, {"1": {"class_type": "KSampler", "inputs": {}}})
    assert error.message
    assert all(detail["message"] for detail in error.details)


def test_a_hostile_workflow_is_explained_in_bounded_time_and_words() -> None:
    asked: list[str] = []

    def node_class(name: str) -> dict[str, Any] | None:
        asked.append(name)
        return None

    unknown = {
        f"{index}": {"class_type": f"{index}-{'x' * 2000}", "inputs": {}} for index in range(10_000)
    }
    unknown["huge"] = {"class_type": "y" * 10_000_000, "inputs": {}}
    started = time.monotonic()
    error = explain({"error": {"type": "invalid_prompt"}}, lookup(unknown, node_class))
    assert time.monotonic() - started < 8
    assert len(error.details) == MAX_DETAILS
    assert len(json.dumps(error.as_result())) < 200_000
    assert len(asked) <= MAX_DETAILS


def test_a_hostile_value_is_explained_in_bounded_time_and_words() -> None:
    started = time.monotonic()
    detail = refused(
        "value_not_in_list",
        input_name="x" * 10_000_000,
        input_config=[["y" * 10_000_000, *LONG], {}],
        received_value="z" * 10_000_000,
    )
    assert time.monotonic() - started < 8
    assert len(json.dumps(detail)) < 20 * MAX_TEXT


def test_a_long_loop_is_cut() -> None:
    count = 10_000
    workflow = {
        str(index): {"class_type": "X", "inputs": {"a": [str((index + 1) % count), 0]}}
        for index in range(count)
    }
    error = explained({"error": {"type": "prompt_outputs_failed_validation"}}, workflow)
    assert "the links form a loop: 0 ← 1 ← 2" in error.message
    assert len(error.message) < 2 * MAX_TEXT


def test_many_problems_of_one_class_ask_comfyui_once() -> None:
    asked: list[str] = []

    def node_class(name: str) -> dict[str, Any] | None:
        asked.append(name)
        return CLASSES.get(name)

    problem = {"type": "required_input_missing", "extra_info": {"input_name": "images"}}
    errors = {
        str(index): {"errors": [problem], "class_type": "SaveImage"} for index in range(10_000)
    }
    assert len(node_problems(errors, lookup({}, node_class))) == 10_000
    assert asked == ["SaveImage"]


@pytest.mark.parametrize(
    ("wanted", "names", "meant"),
    [
        ("KSamplr", ["KSampler", "SaveImage"], "KSampler"),
        ("ksampler", ["KSampler"], "KSampler"),
        ("Image Save", ["ImageScale", "SaveImage"], None),
        ("5", ["5"], None),
    ],
)
def test_only_a_likely_class_is_suggested(wanted: str, names: list[str], meant: str | None) -> None:
    assert likely(wanted, names, at_least=LIKELY_CLASS) == meant


@pytest.mark.parametrize(
    ("wanted", "names", "meant"),
    [
        ("v1-5-pruned.safetensors", ["sdxl_base.safetensors"], None),
        ("SDXL/base.safetensors", ["base.safetensors"], "base.safetensors"),
        ("Flux1-Dev.safetensors", ["flux1_dev.safetensors"], "flux1_dev.safetensors"),
        ("eular", ["euler", "heun"], "euler"),
    ],
)
def test_a_file_is_not_suggested_for_its_ending(
    wanted: str, names: list[str], meant: str | None
) -> None:
    assert likely(wanted, names) == meant


def test_a_text_for_a_choice_of_numbers_is_told_apart() -> None:
    detail = refused(
        "value_not_in_list", input_name="x", input_config=[[4, 5], {}], received_value="5"
    )
    assert detail["message"] == "is the text '5', but a number is meant: 5, without quotes"
    assert "did_you_mean" not in detail


def test_a_missing_choice_lists_what_there_is() -> None:
    detail = refused("required_input_missing", input_name="x", input_config=[["low", "high"], {}])
    assert detail["allowed"] == ["low", "high"]
    assert detail["message"] == "is required, but missing: it takes one of 'low', 'high'"


@pytest.mark.parametrize("name", ["clip.mp4", "scene.glb", "voice.flac"])
def test_a_file_that_a_custom_node_lists_is_no_missing_model(name: str) -> None:
    detail = refused(
        "custom_validation_failed", input_name="x", input_config=[[]], received_value=name
    )
    assert (
        detail["message"] == f"there is no input file {name!r}: send it in `files` under this name"
    )


@pytest.mark.parametrize("value", ["https://example.com/cat.png", "data:image/png;base64,AAAA"])
def test_an_address_in_a_loader_says_where_files_go(value: str) -> None:
    detail = refused(
        "custom_validation_failed",
        input_name="image",
        input_config=[[], {"image_upload": True}],
        received_value=value,
    )
    assert '"images": [{"name": "input.png", "image": ' in detail["message"]


def test_a_path_of_another_machine_says_where_files_go() -> None:
    detail = refused(
        "custom_validation_failed",
        input_name="image",
        input_config=[[], {"image_upload": True}],
        received_value="C:\\Users\\me\\cat.png",
    )
    assert 'such as "cat.png"' in detail["message"]


def test_a_node_of_the_editor_alone_says_where_it_comes_from() -> None:
    workflow = {"7": {"class_type": "PrimitiveNode", "inputs": {}}}
    error = explained({"error": {"type": "missing_node_type"}}, workflow)
    assert "exists in ComfyUI's editor only" in error.message
    assert "File → Export (API)" in error.message


def test_a_class_that_the_stand_in_lacks_names_a_real_comfyui() -> None:
    workflow = {"7": {"class_type": "CoreLoader", "inputs": {}}}
    info = {"only_in_comfyui": ["CoreLoader"], "hint": "name one with COMFYUI_PATH"}
    error = explained({"error": {"type": "invalid_prompt", "extra_info": info}}, workflow)
    assert error.details[0]["message"] == "name one with COMFYUI_PATH"
    assert "custom node" not in error.message


LOADERS: dict[str, Any] = {
    "LoadImage": {"input": {"required": {"image": [["a.png"], {"image_upload": True}]}}},
    "LoadLatent": {"input": {"required": {"latent": [["a.latent"]]}}},
    "LoadImageOutput": {
        "input": {
            "required": {"image": ["COMBO", {"image_upload": True, "image_folder": "output"}]}
        }
    },
    "WebcamCapture": {"input": {"required": {"image": ["WEBCAM", {}]}}},
    "RecordAudio": {"input": {"required": {"audio": ["AUDIO_RECORD", {}]}}},
    "Load3D": {"input": {"required": {"image": ["LOAD_3D", {}]}}},
    "Text": {"input": {"required": {"text": ["STRING", {}]}}},
}
OUTSIDE = ["../../x.png", "/etc/passwd", "a/../../b.png", "x.png [output]", "x [temp]", "..\\x"]


@pytest.mark.parametrize(
    "class_type",
    ["LoadImage", "LoadLatent", "LoadImageOutput", "WebcamCapture", "RecordAudio", "Load3D"],
)
@pytest.mark.parametrize("value", [*OUTSIDE, "https://../../x.png", "../x.png [input]"])
@pytest.mark.parametrize("form", ["{}", '{"__value__": {}}', '{"mask": "m.png", "image": {}}'])
def test_a_file_input_reaches_nothing_outside_the_job(
    class_type: str, value: str, form: str
) -> None:
    name = next(iter(LOADERS[class_type]["input"]["required"]))
    written = json.loads(form.replace("{}", json.dumps(value)))
    workflow = {"3": {"class_type": class_type, "inputs": {name: written}}}
    (detail,) = outside(workflow, LOADERS.get, [])
    assert (detail["node_id"], detail["input"]) == ("3", name)
    assert detail["received"] == value


@pytest.mark.parametrize("place", ["C:\\loras\\{}", "/workspace/loras/{}", "../{}"])
@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("a.safetensors", "; did you mean 'a.safetensors'?"),
        ("b.gguf", ', such as "b.gguf"'),
    ],
)
def test_the_path_of_a_model_is_no_file_to_send(place: str, name: str, end: str) -> None:
    loader = {"input": {"required": {"lora_name": [["a.safetensors"], {}]}}}
    inputs = {"lora_name": place.format(name)}
    workflow = {"3": {"class_type": "LoraLoader", "inputs": inputs}}
    (detail,) = outside(workflow, {"LoraLoader": loader}.get, [])
    assert detail["message"].endswith(f": name the model as it is called here{end}")


@pytest.mark.parametrize("names", [["a.png", "../b.png"], ["b.png [output]"]])
def test_no_name_of_a_list_reaches_outside_the_job(names: list[str]) -> None:
    inputs = {"image": {"__value__": names}}
    (detail,) = outside({"3": {"class_type": "LoadImage", "inputs": inputs}}, LOADERS.get, [])
    assert detail["received"] == names[-1]


def test_a_sent_file_that_a_node_does_not_list_is_no_missing_model() -> None:
    info = {"input_name": "model_file", "input_config": [[], {"file_upload": True}]}
    problem = {"type": "value_not_in_list", "extra_info": info}
    workflow = {"1": {"class_type": "Load3D", "inputs": {"model_file": "m.glb"}}}
    errors = {"1": {"errors": [problem], "class_type": "Load3D"}}
    (detail,) = node_problems(errors, lookup(workflow, sent=["m.glb"]))
    assert "'m.glb' was sent" in detail["message"]
    assert '"3d/m.glb"' in detail["message"]
    assert "models of this kind" not in detail["message"]


@pytest.mark.parametrize(
    ("class_type", "inputs"),
    [
        ("LoadImage", {"image": "a.png"}),
        ("LoadImage", {"image": "x.png [input]"}),
        ("LoadImage", {"image": ["4", 0]}),
        ("Text", {"text": "/imagine a cat ../ [output]"}),
        ("LoadImage", {"videopreview": {"params": {"fullpath": "/workspace/output/x.mp4"}}}),
        ("Load3D", {"image": {"image": "a.png", "recording": "", "camera_info": {"fov": 75}}}),
        ("Unknown", {"text": "../x"}),
    ],
)
def test_other_inputs_are_left_alone(class_type: str, inputs: dict[str, Any]) -> None:
    assert outside({"3": {"class_type": class_type, "inputs": inputs}}, LOADERS.get, []) == []
