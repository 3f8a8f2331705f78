"""docker-bake.hcl: its targets, by an expansion of our own and, where it is, by buildx."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from models.variants import load
from tests.images.bake import expand, members

ROOT = Path(__file__).parents[2]


TARGETS, GROUPS = expand(ROOT / "docker-bake.hcl", {})
VARIANTS = load()
CUDA_LINES = {"base-cuda12-8": "12.8", "base-cuda13-0": "13.0"}


def has_buildx() -> bool:
    try:
        command = ["docker", "buildx", "version"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def test_there_is_a_target_for_each_variant_and_each_cuda_line() -> None:
    assert set(TARGETS) == {*VARIANTS, *CUDA_LINES}


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "base"])
def test_a_variant_s_target_builds_the_final_stage_with_its_models(name: str) -> None:
    target = TARGETS[name]
    assert target["target"] == "final"
    assert target["args"] == {"MODEL_TYPE": name}
    assert target["secret"] == ["id=HF_TOKEN,env=HUGGINGFACE_ACCESS_TOKEN"]
    assert target["tags"] == [f"local/worker-comfyui:dev-{name}"]
    assert target["platforms"] == ["linux/amd64"]


def test_base_has_no_models_and_needs_no_token() -> None:
    assert TARGETS["base"]["target"] == "base"
    assert TARGETS["base"]["args"] == {}
    assert "secret" not in TARGETS["base"]


@pytest.mark.parametrize(("name", "cuda"), CUDA_LINES.items())
def test_a_cuda_line_is_the_base_with_one_argument(name: str, cuda: str) -> None:
    assert TARGETS[name]["args"] == {"CUDA_VERSION": cuda}
    assert TARGETS[name]["target"] == "base"
    assert TARGETS[name]["tags"] == [f"local/worker-comfyui:dev-base-cuda{cuda}"]


def test_the_first_cuda_line_is_the_dockerfile_s_own() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"ARG CUDA_VERSION={CUDA_LINES['base-cuda12-8']}\n" in text


def test_the_image_s_name_comes_from_the_environment() -> None:
    environ = {
        "DOCKERHUB_REPO": "ghcr.io/me",
        "DOCKERHUB_IMG": "comfy",
        "RELEASE_VERSION": "1.2.0",
        "COMFYUI_VERSION": "0.39.0",
    }
    targets, _ = expand(ROOT / "docker-bake.hcl", environ)
    assert targets["sdxl"]["tags"] == ["ghcr.io/me/comfy:1.2.0-sdxl"]
    assert targets["sdxl"]["args"] == {"COMFYUI_VERSION": "0.39.0", "MODEL_TYPE": "sdxl"}
    assert targets["sdxl"]["labels"] == {"org.opencontainers.image.version": "1.2.0"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("DOCKERHUB_REPO", "Me"), ("DOCKERHUB_IMG", "a/b"), ("RELEASE_VERSION", "1.0 $(id)")],
)
def test_a_name_that_no_registry_takes_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name):
        expand(ROOT / "docker-bake.hcl", {name: value})


def test_the_groups_cover_everything_once() -> None:
    covered = members("everything", GROUPS)
    assert len(covered) == len(set(covered))
    assert set(covered) == set(TARGETS)
    assert GROUPS["default"] == ["base"]


def test_the_gated_group_is_what_needs_a_token() -> None:
    gated = {
        name
        for name, variant in VARIANTS.items()
        if any(file.get("gated") for file in variant.get("files", []))
    }
    assert set(GROUPS["gated"]) == gated


def test_every_argument_exists_in_the_dockerfile() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    names = {name for target in TARGETS.values() for name in target["args"]}
    bake_text = (ROOT / "docker-bake.hcl").read_text(encoding="utf-8")
    names |= set(re.findall(r'variable "(\w+)" \{ default = null \}', bake_text))
    assert len(names) > 8
    for name in names:
        assert re.search(rf"^ARG {name}\b", text, re.MULTILINE), name


@pytest.mark.skipif(not has_buildx(), reason="needs docker buildx")
@pytest.mark.parametrize("name", ["everything", *GROUPS, *TARGETS])
def test_buildx_expands_it_to_the_same(name: str) -> None:
    kept = {"PATH", "HOME", "DOCKER_CONFIG", "DOCKER_HOST"}  # none of the file's own variables
    environ = {key: value for key, value in os.environ.items() if key in kept}
    result = subprocess.run(
        ["docker", "buildx", "bake", "--print", name],  # wherever it is installed
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    printed: dict[str, Any] = json.loads(result.stdout)["target"]
    assert set(printed) == set(members(name, GROUPS) if name in GROUPS else [name])
    for made, target in printed.items():
        for key in ("target", "tags", "platforms", "labels"):
            assert target[key] == TARGETS[made][key]
        assert target.get("args", {}) == TARGETS[made]["args"]
