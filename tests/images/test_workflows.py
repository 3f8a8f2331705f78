"""The example requests: right for ComfyUI, and for the image that they are meant for."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.variants import load

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "test_resources" / "workflows"
# ComfyUI 0.3.64, and the classes that it lacks or that have changed as 0.33.0 describes them.
OBJECT_INFO: dict[str, Any] = {
    name: info
    for file in ("object_info.json", "object_info_0.33.json")
    for name, info in json.loads(
        (ROOT / "test_resources" / "comfyui" / file).read_text(encoding="utf-8")
    ).items()
}
VARIANTS = load()
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.json"))
MODEL_FREE = {*("animated-webp", "audio", "image-to-image", "inpainting-mask", "progress", "video")}

# Which folder of the models each loader's input names a file in.
LOADED = {
    ("CheckpointLoaderSimple", "ckpt_name"): {"checkpoints"},
    ("UNETLoader", "unet_name"): {"diffusion_models", "unet"},
    ("CLIPLoader", "clip_name"): {"text_encoders", "clip"},
    ("DualCLIPLoader", "clip_name1"): {"text_encoders", "clip"},
    ("DualCLIPLoader", "clip_name2"): {"text_encoders", "clip"},
    ("VAELoader", "vae_name"): {"vae"},
    ("ModelPatchLoader", "name"): {"model_patches"},
    ("LoraLoaderModelOnly", "lora_name"): {"loras"},
    ("LTXAVTextEncoderLoader", "text_encoder"): {"text_encoders"},
    ("LTXAVTextEncoderLoader", "ckpt_name"): {"checkpoints"},
    ("LTXVAudioVAELoader", "ckpt_name"): {"checkpoints"},
    ("HunyuanInstructLoader", "model_name"): {""},
}
CUSTOM_CLASSES = {
    name
    for variant in VARIANTS.values()
    for node in variant.get("custom_nodes", [])
    for name in node["node_classes"]
}


def request(name: str) -> dict[str, Any]:
    document = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    assert list(document) == ["input"]
    value: dict[str, Any] = document["input"]
    return value


def loaded_files(workflow: dict[str, Any]) -> set[tuple[str, str]]:
    """Folders and names of the files that a workflow loads, as in the list of variants."""
    return {
        (folder, value)
        for node in workflow.values()
        for name, value in node["inputs"].items()
        for folder in LOADED.get((node["class_type"], name), ())
    }


def problems(workflow: dict[str, Any]) -> list[str]:
    """What ComfyUI would refuse, by its own description of the node classes."""
    found = []
    for node_id, node in workflow.items():
        if node["class_type"] in CUSTOM_CLASSES:
            continue
        info = OBJECT_INFO[node["class_type"]]
        required = info["input"].get("required", {})
        known = {**required, **info["input"].get("optional", {})}
        found += [f"{node_id}: no {name}" for name in required if name not in node["inputs"]]
        for name, value in node["inputs"].items():
            where = f"{node_id} {node['class_type']}.{name}"
            if name not in known:
                found.append(f"{where}: unknown")
                continue
            model = (node["class_type"], name) in LOADED or node["class_type"] == "LoadImage"
            if not model and (problem := _value_problem(known[name], value, workflow)):
                found.append(f"{where}: {problem}")
    return found


def _value_problem(spec: list[Any], value: Any, workflow: dict[str, Any]) -> str | None:
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    choices = kind if isinstance(kind, list) else options.get("options")
    if choices is not None:
        return None if value in choices else f"{value!r} is not one of {choices}"
    if isinstance(value, list):
        source = workflow[value[0]]
        if source["class_type"] in CUSTOM_CLASSES:
            return None
        given = OBJECT_INFO[source["class_type"]]["output"][value[1]]
        return None if given in kind.split(",") else f"gets {given}, wants {kind}"
    types: dict[str, Any] = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}
    kind = kind.partition(",")[0]
    if not isinstance(value, types[kind]):
        return f"{value!r} is no {kind}"
    if kind in {"INT", "FLOAT"} and not options.get("min", value) <= value <= options.get(
        "max", value
    ):
        return f"{value} is out of range"
    return None


@pytest.mark.parametrize("name", EXAMPLES)
def test_comfyui_knows_every_node_class_input_and_value(name: str) -> None:
    assert problems(request(name)["workflow"]) == []


def test_a_wrong_workflow_would_be_noticed() -> None:
    workflow = request("sd3.json")["workflow"]
    workflow["6"]["inputs"] |= {"sampler_name": "nope", "steps": 0, "model": ["2", 0], "odd": 1}
    del workflow["6"]["inputs"]["seed"]
    assert [line.split(" is ")[0] for line in problems(workflow)] == [
        "6: no seed",
        "6 KSampler.steps: 0",
        "6 KSampler.sampler_name: 'nope'",
        "6 KSampler.model: gets CONDITIONING, wants MODEL",
        "6 KSampler.odd: unknown",
    ]


@pytest.mark.parametrize("name", [name for name in VARIANTS if "workflow" in VARIANTS[name]])
def test_a_variant_s_workflow_loads_exactly_what_its_image_holds(name: str) -> None:
    loaded = loaded_files(request(VARIANTS[name]["workflow"])["workflow"])
    held = {
        (file["destination"].rpartition("/")[0], file["destination"].rpartition("/")[2])
        for file in VARIANTS[name]["files"]
    }
    assert held <= loaded
    assert {file for _, file in loaded} == {file for _, file in held}


def test_every_example_belongs_to_a_variant_or_needs_no_model() -> None:
    of_variants = {variant["workflow"] for variant in VARIANTS.values() if "workflow" in variant}
    assert set(EXAMPLES) == of_variants | {f"{name}.json" for name in MODEL_FREE}
    for name in MODEL_FREE:
        assert not loaded_files(request(f"{name}.json")["workflow"])


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_picture_that_is_loaded_comes_with_the_request(name: str) -> None:
    document = request(name)
    sent = {image["name"]: image["image"] for image in document.get("images", [])}
    loaded = {
        node["inputs"]["image"]
        for node in document["workflow"].values()
        if node["class_type"] == "LoadImage"
    }
    assert set(sent) == loaded
    for data in sent.values():
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
            picture.load()


def test_the_inpainting_example_has_a_mask() -> None:
    data = request("inpainting-mask.json")["images"][0]["image"]
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert picture.mode == "RGBA"
        assert picture.getchannel("A").getextrema() == (0, 255)
