"""`request.parse` on good requests and on bad ones."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.worker_comfyui.request.sent import NODE, PNG, REQUEST, WORKFLOW, error_of, named
from worker_comfyui.config import Secret
from worker_comfyui.errors import InvalidRequest, InvalidWorkflow
from worker_comfyui.job import InputFile, Job, OutputOptions, S3Config, UploadTargets
from worker_comfyui.request.parse import parse


def problem(sent: Any, **job: Any) -> tuple[str, str]:
    """The only problem of a request: its path and message."""
    error = error_of(sent, **job)
    assert len(error.details) == 1, error.details
    return error.details[0]["path"], error.details[0]["message"]


# Good requests


def test_a_whole_request_becomes_a_job() -> None:
    assert parse(REQUEST) == Job(
        id="sync-1",
        workflow=WORKFLOW,
        files=(
            InputFile("images[0]", "images", "image", "photo.png", f"data:image/png;base64,{PNG}"),
            InputFile(
                "files[0]", "files", "data", "sounds/voice.wav", "https://example.com/voice.wav"
            ),
        ),
        comfy_org_api_key=Secret("comfyui-key-123456"),
        output=OutputOptions("s3", "webp", 80, metadata=False),
        timeout_s=90.5,
        s3_config=S3Config(
            "https://s3.example.com",
            Secret("AKIAIOSFODNN7EXAMPLE"),
            Secret("wJalrXUtnFEMI"),
            "results",
        ),
    )


def test_a_workflow_is_enough() -> None:
    assert parse({"id": "1", "input": {"workflow": WORKFLOW}}) == Job(id="1", workflow=WORKFLOW)


@pytest.mark.parametrize(
    "sent",
    [
        {"workflow": WORKFLOW},
        {"workflow": WORKFLOW, "images": None},
        {"workflow": WORKFLOW, "images": []},
        {"workflow": WORKFLOW, "images": [{"name": "a.png", "image": PNG}]},
        {
            "workflow": WORKFLOW,
            "images": [{"name": "a.png", "image": f"data:image/png;base64,{PNG}"}],
        },
        {"workflow": WORKFLOW, "comfy_org_api_key": "comfyui-1"},
        {"workflow": WORKFLOW, "api_key_comfy_org": "comfyui-1"},
        {"workflow": WORKFLOW, "comfy_org_api_key": None},
        {"workflow": WORKFLOW, "comfy_org_api_key": ""},
    ],
)
def test_requests_of_the_existing_worker_are_taken_also_as_a_text(sent: dict[str, Any]) -> None:
    job = parse({"id": "1", "input": sent})
    assert job == parse({"id": "1", "input": json.dumps(sent)})
    assert job.workflow == WORKFLOW
    assert [file.name for file in job.files] == [i["name"] for i in sent.get("images") or []]
    keys = {sent.get("comfy_org_api_key"), sent.get("api_key_comfy_org")} & {"comfyui-1"}
    assert job.comfy_org_api_key == (Secret("comfyui-1") if keys else None)


def test_the_key_s_name_in_the_code_goes_before_the_one_in_the_documentation() -> None:
    sent = {"workflow": WORKFLOW, "api_key_comfy_org": "second", "comfy_org_api_key": "first"}
    assert parse({"id": "1", "input": sent}).comfy_org_api_key == Secret("first")


def test_a_key_is_masked_wherever_a_job_is_printed() -> None:
    assert "comfyui-key-123456" not in repr(parse(REQUEST))
    assert "wJalrXUtnFEMI" not in repr(parse(REQUEST))


def test_null_means_not_given() -> None:
    sent = {
        "workflow": WORKFLOW,
        "images": None,
        "files": None,
        "comfy_org_api_key": None,
        "timeout_s": None,
        "output": {"delivery": None, "format": None, "quality": None, "metadata": None},
    }
    assert parse({"id": "1", "input": sent, "s3Config": None}) == Job(id="1", workflow=WORKFLOW)


def test_fields_of_others_are_ignored() -> None:
    sent = {"workflow": WORKFLOW, "prompt_text": "a cat", "seed": 5, "webhook": "https://x.test"}
    assert parse({"id": "1", "input": sent, "webhook": "https://x.test"}).workflow == WORKFLOW


@pytest.mark.parametrize(
    "name",
    [
        "photo.png",
        "a/b/c/d/e/f/g/photo.png",
        "-rf",
        "..photo.png",
        ".hidden",
        "two words.png",
        "it's.png",
        "100%.png",
        "日本語.png",
        "Screenshot 2026-01-01 at 1.00.00\N{NARROW NO-BREAK SPACE}PM.png",
        "family \N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}.png",
        "x" * 255,
    ],
)
def test_a_plain_name_is_kept_as_it_is(name: str) -> None:
    job = parse({"id": "1", "input": named(name)})
    assert job.files == (InputFile("files[0]", "files", "data", name, "AAAA"),)


@pytest.mark.parametrize("word", ["jpeg", "JPEG", "jpg", "JPG"])
def test_a_format_is_understood_in_any_spelling(word: str) -> None:
    job = parse({"id": "1", "input": {"workflow": WORKFLOW, "output": {"format": word}}})
    assert job.output.format == "jpeg"


def test_addresses_for_uploads_are_told_by_kind_and_by_name() -> None:
    upload = {
        "videos": "https://host.test/1?sig=a/",
        "images": ["https://host.test/2", "https://host.test/3"],
        "sub/cat.png": "https://host.test/4",
    }
    job = parse({"id": "1", "input": {"workflow": WORKFLOW, "output": {"upload": upload}}})
    assert job.output.upload == UploadTargets(
        by_name={"sub/cat.png": "https://host.test/4"},
        by_kind={
            "videos": ("https://host.test/1?sig=a/",),
            "images": ("https://host.test/2", "https://host.test/3"),
        },
    )
    assert [path for path, _ in job.output.upload.places()] == [
        "output.upload.sub/cat.png",
        "output.upload.videos[0]",
        "output.upload.images[0]",
        "output.upload.images[1]",
    ]


# Bad requests


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (None, 'is missing. Send {"input": {"workflow": {...}}}.'),
        ([], "must be an object with `workflow`, not a list"),
        (5, "must be an object with `workflow`, not a number"),
        (True, "must be an object with `workflow`, not a boolean"),
        ("[1]", "must be an object with `workflow`, not a list"),
        ('"text"', "must be an object with `workflow`, not a text"),
    ],
)
def test_an_input_that_is_no_object_is_refused(sent: Any, message: str) -> None:
    assert problem(sent) == ("input", message)
    assert error_of(sent).code == "INVALID_REQUEST"


@pytest.mark.parametrize("text", ["", "{", "not json", '{"workflow": {}} x', "[" * 100_000])
def test_a_text_that_is_not_json_is_refused(text: str) -> None:
    path, message = problem(text)
    assert path == "input"
    assert message.startswith("is a text that is not JSON: ")


def test_what_python_advises_its_own_users_is_no_message() -> None:
    sent = '{"workflow": %s}' % ("9" * 5000)
    message = "is a text that is not JSON: it has a number of thousands of digits"
    assert problem(sent) == ("input", message)


@pytest.mark.parametrize(
    ("workflow", "path", "words"),
    [
        (None, "workflow", "is missing. Send the content of a workflow file: File → Save or"),
        ([], "workflow", "must be an object, not a list"),
        ({}, "workflow", "has no nodes"),
        ({"1": 5}, "workflow.1", "must be an object with `class_type` and `inputs`"),
        ({"1": {"inputs": {}}}, "workflow.1.class_type", "must be the name of a node class"),
        ({"1": {"class_type": "X"}}, "workflow.1.inputs", "must be an object"),
        ({"1": {"class_type": "X", "inputs": []}}, "workflow.1.inputs", "must be an object"),
        ({"1": {"class_type": "", "inputs": {}}}, "workflow.1.class_type", "must be the name"),
        (
            {"1": {"class_type": "X", "inputs": {"a": [1, {"b": float("nan")}]}}},
            "workflow.1.inputs.a.1.b",
            "must be a finite number, not nan",
        ),
        (
            {"1": {"class_type": "X", "inputs": {"a": float("-inf")}}},
            "workflow.1.inputs.a",
            "must be a finite number, not -inf",
        ),
    ],
)
def test_a_wrong_workflow_is_explained(workflow: Any, path: str, words: str) -> None:
    error = error_of({"workflow": workflow})
    assert type(error) is InvalidWorkflow
    assert problem({"workflow": workflow})[0] == path
    assert words in problem({"workflow": workflow})[1]
    assert error.message.startswith(f"{path}: ")


def test_a_wrong_workflow_beside_another_problem_is_an_invalid_request() -> None:
    error = error_of({"workflow": [], "timeout_s": -1})
    assert type(error) is InvalidRequest
    assert [detail["path"] for detail in error.details] == ["workflow", "timeout_s"]
    assert "(and 1 more problem, see `details`)" in error.message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "must be the file's name"),
        (None, "must be the file's name"),
        (7, "must be the file's name"),
        ("/etc/passwd", "absolute path"),
        ("C:/windows", "absolute path"),
        ("..", "without `..`"),
        ("../photo.png", "without `..`"),
        ("a/../../photo.png", "without `..`"),
        ("folder/", "without `..`"),
        ("..\\photo.png", "backslashes"),
        ('a"; filename="b.png', "quotes"),
        ("a\r\nX-Header: 1", "control characters"),
        ("a\x00.png", "control characters"),
        ("a\ud800.png", "control characters"),
        ("a\N{LINE SEPARATOR}b.png", "control characters"),
        ("x" * 256, "at most 255 bytes"),
        ("ü" * 128, "at most 255 bytes"),
        ("a/b/c/d/e/f/g/h/photo.png", "at most 7 folders"),
        ("a/" * 1_000_000 + "b", "at most 7 folders"),
        ("photo.png [output]", "ComfyUI's folders"),
        ("photo.png[output]", "ComfyUI's folders"),
        ("photo.png_[temp]", "ComfyUI's folders"),
    ],
)
def test_a_hostile_name_is_refused(name: Any, words: str) -> None:
    path, message = problem(named(name))
    assert path == "files[0].name"
    assert words in message
    assert len(message) < 250
    assert message.isprintable()


@pytest.mark.parametrize("name", ["./a/b.png", "a//b.png", "a/./b.png", ".//./a/b.png"])
def test_dots_and_slashes_that_mean_nothing_are_left_out_of_a_name(name: str) -> None:
    assert [file.name for file in parse({"id": "1", "input": named(name)}).files] == ["a/b.png"]


def test_a_name_may_come_twice() -> None:
    # Whether the contents are alike is seen when they are fetched.
    sent = {
        "workflow": WORKFLOW,
        "images": [{"name": "./a.png", "image": PNG}],
        "files": [{"name": "a.png", "data": f"data:;base64,{PNG}"}],
    }
    files = parse({"id": "1", "input": sent}).files
    assert [(file.place, file.name) for file in files] == [
        ("images[0]", "a.png"),
        ("files[0]", "a.png"),
    ]


@pytest.mark.parametrize("field", ["image", "url", "data"])
@pytest.mark.parametrize("group", ["images", "files"])
def test_the_content_is_found_under_each_name_that_clients_use(group: str, field: str) -> None:
    sent = {"workflow": WORKFLOW, group: [{"name": "a.png", field: PNG, "mask": None}]}
    (file,) = parse({"id": "1", "input": sent}).files
    assert (file.group, file.field, file.source) == (group, field, PNG)


def test_the_documented_name_of_the_content_goes_before_the_others() -> None:
    entry = {"name": "a.png", "url": "https://example.com/thumbnail.png", "image": PNG}
    (file,) = parse({"id": "1", "input": {"workflow": WORKFLOW, "images": [entry]}}).files
    assert (file.field, file.source) == ("image", PNG)


@pytest.mark.parametrize("names", [("a", "a/b.png"), ("a/b.png", "a")])
def test_a_name_cannot_be_a_file_and_a_folder(names: tuple[str, str]) -> None:
    path, message = problem(named(*names))
    assert path == "files[1].name"
    assert "files[0].name" in message


@pytest.mark.parametrize("data", [None, "", "  ", 5, {}, [], True])
def test_a_file_without_data_is_refused(data: Any) -> None:
    sent = {"workflow": WORKFLOW, "images": [{"name": "a.png", "image": data}]}
    assert problem(sent) == ("images[0].image", "must be base64, a data URI or an http(s) URL")


@pytest.mark.parametrize("images", [{}, "text", 5, True])
def test_images_must_be_a_list(images: Any) -> None:
    assert problem({"workflow": WORKFLOW, "images": images})[0] == "images"


@pytest.mark.parametrize("entry", [None, "text", 5, []])
def test_each_of_the_images_must_be_an_object(entry: Any) -> None:
    assert problem({"workflow": WORKFLOW, "images": [entry]})[0] == "images[0]"


def test_too_many_files_are_refused() -> None:
    assert problem(named(*map(str, range(1001))))[0] == "files"
    both = named(*map(str, range(501)))
    both["images"] = [{"name": f"{i}.png", "image": PNG} for i in range(500)]
    assert problem(both) == ("files", "has more entries than are taken: 1000 for all files")


@pytest.mark.parametrize(
    "seconds", [0, -1, "90", True, float("nan"), float("inf"), [], 10**400, 604801]
)
def test_a_deadline_that_is_no_number_of_seconds_is_refused(seconds: Any) -> None:
    assert problem({"workflow": WORKFLOW, "timeout_s": seconds})[0] == "timeout_s"


@pytest.mark.parametrize(
    ("output", "path"),
    [
        ([], "output"),
        ("png", "output"),
        ({"format": "gif"}, "output.format"),
        ({"format": 5}, "output.format"),
        ({"format": [[]]}, "output.format"),
        ({"delivery": "ftp"}, "output.delivery"),
        ({"quality": 0}, "output.quality"),
        ({"quality": 101}, "output.quality"),
        ({"quality": True}, "output.quality"),
        ({"quality": 9.5}, "output.quality"),
        ({"metadata": "no"}, "output.metadata"),
        ({"fromat": "png"}, "output.fromat"),
        ({"upload": "https://host/x"}, "output.upload"),
        ({"upload": {"images": "ftp://host/x"}}, "output.upload.images"),
        ({"upload": {"images": ["https://host/x", None]}}, "output.upload.images"),
        ({"upload": {"images": ["https://host/x"] * 101}}, "output.upload.images"),
        ({"upload": {"cat.png": ["https://host/x"]}}, "output.upload.cat.png"),
        ({"upload": {"cat.png": "https://me:secret@host/x"}}, "output.upload.cat.png"),
        ({"upload": {"cat.png": "https://host/" + "x" * 9000}}, "output.upload.cat.png"),
        ({"upload": {str(i): "https://host/x" for i in range(101)}}, "output.upload"),
    ],
)
def test_a_wrong_output_option_is_refused_with_its_path(output: Any, path: str) -> None:
    assert problem({"workflow": WORKFLOW, "output": output})[0] == path


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"endpointUrl": None}, "s3Config.endpointUrl"),
        ({"endpointUrl": "s3.example.com"}, "s3Config.endpointUrl"),
        ({"endpointUrl": "file:///etc/passwd"}, "s3Config.endpointUrl"),
        ({"accessId": ""}, "s3Config.accessId"),
        ({"accessSecret": 5}, "s3Config.accessSecret"),
        ({"bucketName": ["x"]}, "s3Config.bucketName"),
    ],
)
def test_a_wrong_bucket_of_the_caller_is_refused(change: dict[str, Any], path: str) -> None:
    config = {**REQUEST["s3Config"], **change}
    assert problem({"workflow": WORKFLOW}, s3Config=config)[0] == path


def test_an_empty_bucket_of_the_caller_is_none() -> None:
    assert parse({"id": "1", "input": {"workflow": WORKFLOW}, "s3Config": {}}).s3_config is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("image", "images"),
        ("timeout", "timeout_s"),
        ("comfy_org_key", "comfy_org_api_key"),
        ("file", "files"),
        ("outputs", "output"),
        ("override", "overrides"),
        ("model", "models"),
        ("dryrun", "dry_run"),
        ("extradata", "extra_data"),
    ],
)
def test_a_field_that_is_unknown_is_told_but_fails_no_job(name: str, meant: str) -> None:
    job = parse({"id": "1", "input": {"workflow": WORKFLOW, name: []}})
    assert job.warnings == (f"`{name}` is unknown and was ignored; did you mean `{meant}`?",)


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("s3Config", {"accessId": "a"}, "beside `input`, not in it"),
        ("webhook", "https://example.com/done", "beside `input`, not in it"),
        ("policy", {"executionTimeout": 5000}, "beside `input`, not in it"),
        ("format", "jpeg", "in `output`"),
        ("quality", 80, "in `output`"),
        ("live", True, "in `output`"),
        ("upload", {"images": "https://example.com/put?s=1"}, "in `output`"),
    ],
)
def test_a_field_in_the_wrong_place_is_told_but_fails_no_job(
    name: str, value: Any, where: str
) -> None:
    job = parse({"id": "1", "input": {"workflow": WORKFLOW, name: value}})
    assert job.warnings == (f"`{name}` was ignored: it belongs {where}",)


@pytest.mark.parametrize(("name", "value"), [("format", "mp4"), ("live", "yes"), ("quality", None)])
def test_what_output_would_not_take_is_somebody_else_s(name: str, value: Any) -> None:
    assert parse({"id": "1", "input": {"workflow": WORKFLOW, name: value}}).warnings == ()


def test_all_problems_are_told_at_once() -> None:
    sent = {
        "workflow": {"1": {}},
        "images": [{"name": "../x"}],
        "files": 5,
        "output": {"format": "gif", "quality": 0},
        "timeout_s": 0,
    }
    assert [detail["path"] for detail in error_of(sent, s3Config=5).details] == [
        "workflow.1.class_type",
        "workflow.1.inputs",
        "images[0].name",
        "images[0].image",
        "files",
        "output.format",
        "output.quality",
        "timeout_s",
        "s3Config",
    ]


@pytest.mark.parametrize(
    "workflow",
    [
        "portrait",
        json.dumps(WORKFLOW),
        {"nodes": [], "links": []},
        {"prompt": WORKFLOW, "extra_data": {}},
        {"input": {"workflow": WORKFLOW}},
    ],
)
def test_what_is_not_the_api_format_is_left_to_be_converted(workflow: Any) -> None:
    job = parse({"id": "1", "input": {"workflow": workflow}})
    assert job.workflow == {}
    assert job.source == workflow


@pytest.mark.parametrize("link", [["1", 0], [1, 0], ["1", "0"], [1, "0"]])
def test_a_link_is_understood_with_numbers_and_texts_mixed_up(link: list[Any]) -> None:
    workflow = {
        "1": NODE,
        "2": {
            "class_type": "SaveImage",
            "inputs": {"images": link, "size": [9, 0], "on": [True, 1]},
        },
    }
    inputs = parse({"id": "1", "input": {"workflow": workflow}}).workflow["2"]["inputs"]
    assert inputs == {"images": ["1", 0], "size": [9, 0], "on": [True, 1]}


@pytest.mark.parametrize(
    ("written", "understood"),
    [
        ({"__value__": "a.png"}, "a.png"),
        ({"__value__": 5}, 5),
        ({"__value__": ["a", "b"]}, {"__value__": ["a", "b"]}),
        ({"__value__": {"__value__": 5}}, {"__value__": {"__value__": 5}}),
    ],
)
def test_a_value_that_comfyui_unwraps_is_read_as_what_is_in_it(
    written: Any, understood: Any
) -> None:
    workflow = {"1": {"class_type": "LoadImage", "inputs": {"image": written}}}
    job = parse({"id": "1", "input": {"workflow": workflow}})
    assert job.workflow["1"]["inputs"] == {"image": understood}


def test_comfyui_s_own_name_for_the_workflow_is_taken() -> None:
    job = parse({"id": "1", "input": {"prompt": WORKFLOW, "client_id": "c"}})
    assert job.source == {"prompt": WORKFLOW, "extra_data": {}}


@pytest.mark.parametrize(
    "sent",
    [
        {"input": {"workflow": WORKFLOW, "timeout_s": 5}},
        {"input": {"workflow": WORKFLOW}, "timeout_s": 5},
        {**WORKFLOW, "timeout_s": 5},
    ],
)
def test_a_workflow_in_an_input_of_the_input_or_bare_in_it_is_what_is_meant(sent: Any) -> None:
    job = parse({"id": "1", "input": copy.deepcopy(sent)})
    assert (job.workflow, job.source, job.timeout_s) == (WORKFLOW, None, 5)


def test_the_editor_s_file_as_the_input_is_the_workflow() -> None:
    graph: dict[str, Any] = {"nodes": [], "links": [], "models": []}
    assert parse({"id": "1", "input": graph}).source == graph


def test_a_quoted_prompt_is_a_workflow_and_a_prompt_in_words_is_named() -> None:
    text = json.dumps(WORKFLOW)
    job = parse({"id": "1", "input": {"prompt": text}})
    assert job.source == {"prompt": text, "extra_data": {}}
    with pytest.raises(InvalidWorkflow, match="is missing; sent were 'prompt', 'seed'"):
        parse({"id": "1", "input": {"prompt": "a cat", "seed": 5}})


def test_bare_nodes_do_not_lose_one_without_a_class() -> None:
    with pytest.raises(InvalidWorkflow, match="every node of an API export has") as caught:
        parse({"id": "1", "input": {"1": NODE, "2": {"inputs": {}}}})
    assert caught.value.details[0]["path"] == "workflow.2.class_type"


def test_a_node_may_be_called_like_something_else() -> None:
    workflow = {"output": NODE, "input": NODE}
    assert parse({"id": "1", "input": {"workflow": workflow}}).workflow == workflow


def test_extra_data_is_passed_on_but_what_the_worker_owns() -> None:
    graph: dict[str, Any] = {"nodes": []}
    sent = {
        "extra_pnginfo": {"workflow": graph},
        "client_id": "x",
        "api_key_comfy_org": "secret-key",
    }
    job = parse({"id": "1", "input": {"workflow": WORKFLOW, "extra_data": sent}})
    assert job.extra_data == {"extra_pnginfo": {"workflow": graph}}
    assert job.comfy_org_api_key == Secret("secret-key")


@pytest.mark.parametrize("more", [{}, {"workflow": None}, {"names": ["loras/a.safetensors"]}])
def test_models_as_a_word_is_a_job_without_a_workflow(more: dict[str, Any]) -> None:
    job = parse({"id": "1", "input": {"models": "verify", "timeout_s": 5, **more}})
    assert job.model_job == {
        "models": "verify",
        **({"names": more["names"]} if "names" in more else {}),
    }
    assert (job.workflow, job.timeout_s) == ({}, 5.0)


def test_models_beside_a_workflow_are_no_job_of_their_own() -> None:
    job = parse({"id": "1", "input": {"workflow": WORKFLOW, "models": "list"}})
    assert (job.model_job, job.models) == (None, "list")


def test_workflows_as_a_word_asks_for_their_names() -> None:
    job = parse({"id": "1", "input": {"workflows": "list", "timeout_s": 5}})
    assert (job.lists_workflows, job.workflow, job.timeout_s) == (True, {}, 5.0)
    assert not parse({"id": "1", "input": {"workflow": WORKFLOW, "workflows": "x"}}).lists_workflows


def test_a_name_in_workflows_is_told_where_it_belongs() -> None:
    with pytest.raises(InvalidRequest, match="workflows: must be `list`; a stored workflow runs"):
        parse({"id": "1", "input": {"workflows": "portrait"}})
