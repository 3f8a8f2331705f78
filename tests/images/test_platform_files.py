"""What GitHub and RunPod read: workflows, Hub files, and the network volume's model paths."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.variants import load
from tests.images.bake import expand
from worker_comfyui.config import Settings

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS, _ = expand(ROOT / "docker-bake.hcl", {})
SETTINGS = {setting.metadata["name"]: setting for setting in fields(Settings)}

# Kinds that hold no models, or that ComfyUI does not look for on a volume.
NO_MODELS = {"custom_nodes", "datasets", "fonts"}

# The folder kinds of ComfyUI 0.38 (its folder_paths.py), which `GET /models` answers.
KINDS = {
    *("audio_encoders", "background_removal", "checkpoints", "classifiers", "clip_vision"),
    *("configs", "controlnet", "custom_nodes", "datasets", "detection", "diffusers"),
    *("diffusion_models", "embeddings", "fonts", "frame_interpolation", "geometry_estimation"),
    *("gligen", "hypernetworks", "latent_upscale_models", "loras", "model_patches"),
    *("optical_flow", "photomaker", "style_models", "text_encoders", "upscale_models", "vae"),
    "vae_approx",
}


def workflow(name: str) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true.
    text = (ROOT / ".github" / "workflows" / name).read_text().replace("\non:\n", "\n'on':\n")
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def steps(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in document["jobs"].values() for step in job.get("steps", [])]


# What a job may do besides reading, and for what.
RIGHTS = {
    "build-and-push.yml": {"packages", "id-token", "attestations"},  # push, sign, keep
    "release.yml": {"packages", "id-token", "attestations", "contents"},  # and make the release
    "updates.yml": {"contents", "pull-requests"},  # propose
    "test.yml": set(),
}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_rights_are_the_least(path: Path) -> None:
    document = workflow(path.name)
    assert document["permissions"] == {}
    written = set()
    for job in document["jobs"].values():
        assert "timeout-minutes" in job or job["uses"].startswith("./")
        written |= {name for name, right in job["permissions"].items() if right == "write"}
    assert written == RIGHTS[path.name]
    for step in steps(document):
        if "uses" in step:
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"])
        assert "${{" not in step.get("run", ""), "an expression in a shell script can be injected"


def test_new_code_of_others_is_run_with_no_right_but_to_read() -> None:
    jobs = workflow("updates.yml")["jobs"]
    assert jobs["try"]["permissions"] == {"contents": "read"}
    for step in jobs["propose"]["steps"]:
        assert step.get("run", "").split(" ")[0] in {"", "./scripts/propose-update"}
    script = (ROOT / "scripts" / "propose-update").read_text()
    assert not re.search(r"environment\.sh|\bpip\b|\bpython|scripts/", script)


def test_a_release_builds_the_shared_layers_once_and_first() -> None:
    jobs = workflow("release.yml")["jobs"]
    assert jobs["base"]["with"]["fill-cache"] is True
    assert "base" in jobs["images"]["needs"]
    assert "fill-cache" not in jobs["images"]["with"]
    text = (ROOT / ".github" / "workflows" / "build-and-push.yml").read_text()
    assert "*.cache-from=type=registry,ref=" in text
    assert "rewrite-timestamp=true" in text
    assert "provenance: mode=max" in text
    assert "sbom: true" in text


def test_the_build_workflow_offers_every_image() -> None:
    inputs = workflow("build-and-push.yml")["on"]["workflow_dispatch"]["inputs"]
    assert set(inputs["target"]["options"]) == set(TARGETS)
    assert inputs["version"]["default"] == "latest"
    assert workflow("build-and-push.yml")["name"] == "Build & Push Single Target"


def test_secrets_and_variables_have_their_well_known_names() -> None:
    text = (ROOT / ".github" / "workflows" / "build-and-push.yml").read_text()
    assert set(re.findall(r"(?:secrets|vars)\.(\w+)", text)) == {
        "DOCKERHUB_USERNAME",
        "DOCKERHUB_TOKEN",
        "HUGGINGFACE_ACCESS_TOKEN",
        "DOCKERHUB_REPO",
        "DOCKERHUB_IMG",
    }


def test_a_release_builds_images_that_need_no_token() -> None:
    built = workflow("release.yml")["jobs"]["images"]["strategy"]["matrix"]["target"]
    for name in built:
        assert name in TARGETS
        files = load().get(name, {}).get("files", [])
        assert not any(file.get("gated") for file in files)


def test_every_variable_of_the_hub_s_form_is_a_setting_with_its_default() -> None:
    hub = json.loads((ROOT / ".runpod" / "hub.json").read_text())
    for entry in hub["config"]["env"]:
        setting = SETTINGS[entry["key"]]
        given = entry["input"]["default"]
        read = setting.metadata["parse"](str(given)) if given != "" else None
        assert read == setting.default, entry["key"]
        for option in entry["input"].get("options", []):
            setting.metadata["parse"](option["value"])
        for bound in ("min", "max"):
            if bound in entry["input"]:
                setting.metadata["parse"](str(entry["input"][bound]))


def test_the_hub_s_image_fits_on_its_disk_and_runs_on_its_drivers() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    variant = re.findall(r"^ARG MODEL_TYPE=(\S+)$", dockerfile, re.MULTILINE)[0]
    [cuda] = re.findall(r"^ARG CUDA_VERSION=(\S+)$", dockerfile, re.MULTILINE)
    config = json.loads((ROOT / ".runpod" / "hub.json").read_text())["config"]
    weights = sum(file["bytes"] for file in load()[variant]["files"]) / 1e9
    # The image without models, and the tenth of the disk that the SDK wants free.
    assert config["containerDiskInGb"] >= (weights + 12) / 0.9
    assert all(float(version) >= float(cuda) for version in config["allowedCudaVersions"])


def test_the_hub_s_tests_are_requests_of_this_project() -> None:
    tests = json.loads((ROOT / ".runpod" / "tests.json").read_text())["tests"]
    sent = {test["name"]: test["input"] for test in tests}
    examples = ROOT / "test_resources" / "workflows"
    assert sent == {
        "model_free": json.loads((ROOT / "test_input.json").read_text())["input"],
        "flux1_dev_fp8": json.loads((examples / "flux1-dev-fp8.json").read_text())["input"],
    }


def test_compose_publishes_to_this_machine_only_and_needs_no_gpu_with_its_cpu_profile() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, service in services.items():
        assert service["profiles"] == [name]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["environment"]["SERVE_API_LOCALLY"] == "true"
        assert service["env_file"] == [{"path": ".env", "required": False}]
    assert "deploy" not in services["cpu"]
    assert services["cpu"]["build"]["target"] == "stand-in"
    assert services["gpu"]["build"]["target"] == "base"
    assert "deploy" in services["gpu"]


def test_the_platform_s_tests_run_on_the_drivers_that_the_image_wants() -> None:
    hub = json.loads((ROOT / ".runpod" / "hub.json").read_text())["config"]
    tests = json.loads((ROOT / ".runpod" / "tests.json").read_text())["config"]
    assert tests["allowedCudaVersions"] == hub["allowedCudaVersions"]


def test_the_network_volume_has_a_folder_for_every_kind_of_model() -> None:
    document = yaml.safe_load((ROOT / "src" / "extra_model_paths.yaml").read_text())
    [paths] = document.values()
    assert paths.pop("base_path") == "/runpod-volume"
    assert set(paths) == KINDS - NO_MODELS
    for kind, folders in paths.items():
        assert f"models/{kind}" in folders.split()


def test_the_old_names_of_folders_are_searched_too() -> None:
    document = yaml.safe_load((ROOT / "src" / "extra_model_paths.yaml").read_text())
    [paths] = document.values()
    assert paths["diffusion_models"].split() == ["models/diffusion_models", "models/unet"]
    assert paths["text_encoders"].split() == ["models/text_encoders", "models/clip"]


def test_the_kinds_that_a_real_comfyui_answered_are_all_known() -> None:
    transcript = ROOT / "test_resources" / "comfyui" / "transcripts" / "small_routes.json"
    answered = list(_answers(json.loads(transcript.read_text()), "/models"))
    assert answered
    for kinds in answered:
        assert set(kinds) <= KINDS


def _answers(value: Any, path: str) -> Iterator[Any]:
    """The bodies that answered this path, wherever the transcript has them."""
    if isinstance(value, dict):
        request = value.get("request")
        if isinstance(request, dict) and request.get("path") == path:
            yield value["response"]["body"]
        else:
            for item in value.values():
                yield from _answers(item, path)
    elif isinstance(value, list):
        for item in value:
            yield from _answers(item, path)
