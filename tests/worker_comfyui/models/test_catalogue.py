from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from worker_comfyui.errors import ConfigurationError, Detail
from worker_comfyui.models import loaders
from worker_comfyui.models.catalogue import Catalogue, Entry, Origin, parse, read
from worker_comfyui.models.transfer.errors import Refused
from worker_comfyui.models.transfer.sources import is_source, source
from worker_comfyui.wording import shown

GOOD = {"folder": "loras", "name": "x.safetensors", "url": "hf://a/b/x.safetensors"}


def problems(value: Any) -> list[str]:
    found: list[Detail] = []
    parse(value, "models", Origin.REQUEST, found)
    return [f"{problem['path']} {problem['message']}" for problem in found]


def test_an_entry_is_read_with_all_that_it_says() -> None:
    sent = {**GOOD, "folder": "unet", "sha256": "AB" * 32, "bytes": 5}
    [entry] = parse([sent], "models", Origin.REQUEST, [])
    assert entry == Entry(
        folder="diffusion_models",
        name="x.safetensors",
        url=GOOD["url"],
        origin=Origin.REQUEST,
        path="models[0]",
        sha256="ab" * 32,
        bytes=5,
    )


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({}, "models must be a list of objects with `folder`, `name` and `url`"),
        (["x"], "models[0] must be an object with `folder`, `name` and `url`"),
        ([{}], "models[0].folder must be the name of a folder of models, such as loras"),
        ([{**GOOD, "folder": "../x"}], "models[0].folder must be the name of a folder"),
        ([{**GOOD, "folder": "custom_nodes"}], "must be a folder of models, not custom_nodes"),
        ([GOOD, {**GOOD, "name": "../x.sft"}], "models[1].name must be a plain name"),
        ([{**GOOD, "name": "/x.sft"}], "models[0].name must be a plain name"),
        ([{**GOOD, "name": "a/.hidden"}], "models[0].name must be a plain name"),
        ([{**GOOD, "name": "a\\x.sft"}], "models[0].name must be a plain name"),
        ([{**GOOD, "name": "C:x.sft"}], "models[0].name must be a plain name"),
        ([{**GOOD, "name": "x"}], "models[0].name must have an ending"),
        ([{**GOOD, "name": "x\n.sft"}], "models[0].name must be a plain name"),
        ([{**GOOD, "url": "file:///etc/passwd"}], "models[0].url cannot be used: "),
        ([{**GOOD, "url": "https://u:p@h/x.sft"}], "has no user or password in it"),
        ([{**GOOD, "url": "https://huggingface.co/a/b"}], "names no file: a file's address on"),
        ([{**GOOD, "url": 5}], "models[0].url must be a URL, hf://OWNER/NAME/PATH, or"),
        ([{**GOOD, "sha256": "abc"}], "models[0].sha256 must be 64 hexadecimal digits"),
        ([{**GOOD, "bytes": 0}], "models[0].bytes must be a whole number above 0"),
        ([{**GOOD, "bytes": True}], "models[0].bytes must be a whole number above 0"),
        ([{**GOOD, "sha": "x"}], "models[0].sha is unknown; the fields are folder, name"),
        ([GOOD] * 2001, "models has 2001 entries; at most 2000 are taken"),
    ],
)
def test_a_problem_is_named_with_its_path(value: Any, problem: str) -> None:
    assert problem in "\n".join(problems(value))


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([GOOD]),
        json.dumps({"models": [GOOD]}),
        "- folder: loras\n  name: x.safetensors\n  url: hf://a/b/x.safetensors\n",
        "models:\n- {folder: loras, name: x.safetensors, url: 'hf://a/b/x.safetensors'}\n",
    ],
)
@pytest.mark.parametrize("is_file", [True, False])
def test_the_operator_s_catalogue_is_json_or_yaml_in_a_file_or_inline(
    text: str, is_file: bool, tmp_path: Path
) -> None:
    path = tmp_path / "catalogue"
    path.write_text(text)
    [entry] = read(str(path) if is_file else text)
    assert (entry.folder, entry.origin) == ("loras", Origin.OPERATOR)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "/no/such/file.yaml",
            r"MODEL_CATALOG \(/no/such/file.yaml\) cannot be read: No such file",
        ),
        ("[{]", "MODEL_CATALOG is neither JSON nor YAML"),
        ('[{"folder": "loras"}]', r"MODEL_CATALOG\[0\]\.name must be .*; MODEL_CATALOG\[0\]\.url"),
        ("5\n", "MODEL_CATALOG must be a list of objects"),
    ],
)
def test_a_wrong_catalogue_is_a_configuration_error_with_every_problem(
    text: str, problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        read(text)


def test_the_first_to_say_where_a_model_is_had_counts() -> None:
    def entry(origin: Origin, folder: str = "loras") -> Entry:
        return Entry(folder=folder, name="x.sft", url=f"https://h/{origin}", origin=origin, path="")

    entries = [entry(origin) for origin in (Origin.WORKFLOW, Origin.OPERATOR, Origin.REQUEST)]
    entries.append(entry(Origin.OPERATOR, folder="vae"))
    known = Catalogue(entries)
    assert [found.origin for found in known.find("x.sft", "loras")] == [0, 1, 2]
    assert [found.folder for found in known.find("a\\x.sft", "vae")] == ["vae"]
    assert known.find("y.sft", "loras") == []
    assert len(known.find("x.sft", None)) == 4


@pytest.mark.parametrize(
    ("text", "url", "identity"),
    [
        ("hf://o/n/d/x.sft", "https://huggingface.co/o/n/resolve/main/d/x.sft", "@main/d/x.sft"),
        ("hf://o/n/x.sft@v1", "https://huggingface.co/o/n/resolve/v1/x.sft", "o/n@v1/x.sft"),
        (
            "hf://datasets/o/n/x.sft",
            "https://huggingface.co/datasets/o/n/resolve/main/x.sft",
            "datasets/o/n@main/x.sft",
        ),
        (
            "https://huggingface.co/o/n/blob/main/x.sft?download=true",
            "https://huggingface.co/o/n/resolve/main/x.sft",
            "huggingface.co/o/n@main/x.sft",
        ),
        (
            "https://huggingface.co/o/n/resolve/refs%2Fpr%2F1/a%20b.sft",
            "https://huggingface.co/o/n/resolve/refs%2Fpr%2F1/a%20b.sft",
            "o/n@refs/pr/1/a b.sft",
        ),
        ("civitai://5", "https://civitai.com/api/download/models/5", "civitai.com/5"),
        (
            "https://civitai.com/models/9/name?modelVersionId=5",
            "https://civitai.com/api/download/models/5",
            "civitai.com/5",
        ),
        (
            "https://civitai.red/api/download/models/5?token=secret&type=Model",
            "https://civitai.com/api/download/models/5?type=Model",
            "civitai.com/5?type=Model",
        ),
        (
            "air:sdxl:lora:civitai:9@5+7.safetensors",
            "https://civitai.com/api/download/models/5?fileId=7",
            "civitai.com/5?fileId=7",
        ),
        ("https://h.com/p/x.sft?sig=1#f", "https://h.com/p/x.sft?sig=1", "h.com/p/x.sft"),
    ],
)
def test_each_form_stands_for_one_url(text: str, url: str, identity: str) -> None:
    found = source(text)
    assert found.url == url
    assert found.identity.endswith(identity)
    assert is_source(text)
    assert not is_source("sub/folder/x.safetensors")


def test_a_mirror_is_asked_in_place_of_the_hub_under_the_same_identity() -> None:
    mirrored = source("https://huggingface.co/o/n/resolve/main/x.sft", "https://mirror.example")
    assert mirrored.url == "https://mirror.example/o/n/resolve/main/x.sft"
    assert mirrored.identity == source("hf://o/n/x.sft").identity


@pytest.mark.parametrize(
    "text",
    [
        *("hf://o/n", "hf://o", "civitai://x", "https://civitai.com/models/9", "https:///x"),
        *("hf://o/n/../x", "https://huggingface.co/o/n/resolve/main/..%2F..%2Fx", "hf://o/n/x@.."),
        *("https://h:0/x", "https://[::1/x", "https://h/a b", f"https://h/{'x' * 5000}"),
    ],
)
def test_what_has_none_of_the_forms_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        source(text)


def test_a_url_is_shown_without_what_may_be_secret() -> None:
    assert shown("https://user:pw@h.com/x.sft?token=secret#f") == "https://h.com/x.sft"


def node(class_type: str, **inputs: object) -> dict[str, Any]:
    return {"1": {"class_type": class_type, "inputs": inputs}}


def test_models_are_named_by_files_and_by_urls() -> None:
    found = loaders.named(
        {
            **node("LoraLoader", lora_name="x.safetensors", strength=1.0, model=["4", 0]),
            "2": {"class_type": "VAELoader", "inputs": {"vae_name": "https://h/download?id=5"}},
            "3": {"class_type": "Other", "inputs": {"u": "https://h/page", "m": "hf://a/b/c"}},
            "4": {"class_type": "Other", "inputs": {"u": "https://h/x.gguf?y=z", "t": "a.png"}},
            "5": {"class_type": "VAELoader", "inputs": {"vae_name": "taesd"}},
            "6": {"class_type": "Text", "inputs": {"t": "long text\nembedding.pt"}},
        }
    )
    assert [(named.node_id, named.input) for named in found] == [
        *(("1", "lora_name"), ("2", "vae_name"), ("3", "m"), ("4", "u")),
    ]


@pytest.mark.parametrize(
    "definition",
    [
        {"input": {"required": {"name": [["a.sft", "b.sft"], {}]}}},
        {"input": {"optional": {"name": ["COMBO", {"options": ["a.sft", "b.sft"]}]}}},
    ],
)
def test_choices_are_read_in_both_forms(definition: dict[str, Any]) -> None:
    assert loaders.choices(definition, "name") == ["a.sft", "b.sft"]
    assert loaders.choices(definition, "other") is None
    assert loaders.choices(None, "name") is None
    assert loaders.choices({"input": {"required": {"name": ["MODEL"]}}}, "name") is None


@pytest.mark.parametrize(
    ("listed", "folder"),
    [
        (["a", "b"], "loras"),
        (["None", "a", "b"], "loras"),
        (["c"], "vae"),
        (["a", "b", "c"], "loras"),  # the kind with most of them
        (["x", "y", "a", "b", "z"], None),  # most are something else
        (["d"], None),  # two kinds have just this one
        ([], None),
        (None, None),
    ],
)
def test_an_unknown_input_s_kind_is_told_by_comparison(
    listed: list[str] | None, folder: str | None
) -> None:
    folders = {"loras": ["a", "b"], "vae": ["c"], "x": ["d"], "y": ["d"], "empty": []}
    assert loaders.folder_of("Unknown", "model", listed, lambda: folders) == folder


def test_a_known_input_s_kind_is_not_asked_for() -> None:
    def never() -> dict[str, list[str]]:
        raise AssertionError

    assert loaders.folder_of("CLIPVisionLoader", "clip_name", [], never) == "clip_vision"
    assert loaders.folder_of("DualCLIPLoader", "clip_name2", [], never) == "text_encoders"
