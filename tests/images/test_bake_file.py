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
DATE = {"SOURCE_DATE_EPOCH": "1767225600"}


def has_buildx() -> bool:
    try:
        command = ["docker", "buildx", "version"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def bake(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `docker buildx bake`, wherever it is installed, with none of the file's variables."""
    kept = {"PATH", "HOME", "DOCKER_CONFIG", "DOCKER_HOST"}
    return subprocess.run(
        ["docker", "buildx", "bake", *arguments],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key in kept} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_there_is_a_target_for_each_variant_and_each_cuda_line() -> None:
    assert set(TARGETS) == {*VARIANTS, *CUDA_LINES, "stand-in"}


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "base"])
def test_a_variant_s_target_builds_the_final_stage_with_its_models(name: str) -> None:
    target = TARGETS[name]
    assert target["target"] == "final"
    assert target["args"] == DATE | {"MODEL_TYPE": name}
    assert target["secret"] == ["id=HF_TOKEN,env=HUGGINGFACE_ACCESS_TOKEN"]
    assert target["tags"] == [f"local/worker-comfyui:dev-{name}"]
    assert target["platforms"] == ["linux/amd64"]


def test_base_has_no_models_and_needs_no_token() -> None:
    assert TARGETS["base"]["target"] == "base"
    assert TARGETS["base"]["args"] == DATE
    assert "secret" not in TARGETS["base"]


@pytest.mark.parametrize(("name", "cuda"), CUDA_LINES.items())
def test_a_cuda_line_is_the_base_with_one_argument(name: str, cuda: str) -> None:
    assert TARGETS[name]["args"] == DATE | {"CUDA_VERSION": cuda}
    assert TARGETS[name]["target"] == "base"
    assert TARGETS[name]["tags"] == [f"local/worker-comfyui:dev-base-cuda{cuda}"]


def test_the_dockerfile_s_own_cuda_line_and_date_are_among_them() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"ARG CUDA_VERSION={CUDA_LINES['base-cuda13-0']}\n" in text
    dates = re.findall(r"^ARG SOURCE_DATE_EPOCH=(.*)$", text, re.MULTILINE)
    assert set(dates) == {DATE["SOURCE_DATE_EPOCH"]}


@pytest.mark.parametrize("cuda", CUDA_LINES.values())
def test_each_cuda_line_has_its_pytorch(cuda: str) -> None:
    text = (ROOT / "src" / "comfyui" / "pytorch" / f"{cuda}.txt").read_text(encoding="utf-8")
    assert re.fullmatch(r"torch==[\d.]+\ntorchvision==[\d.]+\n", text)


def test_the_stand_in_has_neither_comfyui_nor_models() -> None:
    target = TARGETS["stand-in"]
    assert target["target"] == "stand-in"
    assert target["args"] == DATE
    assert target["labels"]["org.opencontainers.image.licenses"] == "MIT"


def test_the_image_s_name_comes_from_the_environment() -> None:
    environ = {
        "DOCKERHUB_REPO": "ghcr.io/me",
        "DOCKERHUB_IMG": "comfy",
        "RELEASE_VERSION": "1.2.0",
        "COMFYUI_VERSION": "0.39.0",
        "CUDA_VERSION": "12.8",
        "REVISION": "abc",
        "REPOSITORY_URL": "https://github.com/me/comfy",
    }
    targets, _ = expand(ROOT / "docker-bake.hcl", environ)
    assert targets["sdxl"]["tags"] == ["ghcr.io/me/comfy:1.2.0-sdxl"]
    given = {"COMFYUI_VERSION": "0.39.0", "CUDA_VERSION": "12.8", "MODEL_TYPE": "sdxl"}
    assert targets["sdxl"]["args"] == DATE | given
    assert targets["base-cuda13-0"]["args"]["CUDA_VERSION"] == "13.0"
    assert targets["sdxl"]["labels"] == {
        "org.opencontainers.image.title": "worker-comfyui",
        "org.opencontainers.image.version": "1.2.0",
        "org.opencontainers.image.revision": "abc",
        "org.opencontainers.image.source": "https://github.com/me/comfy",
        "org.opencontainers.image.licenses": "MIT AND GPL-3.0-only",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DOCKERHUB_REPO", "Me"),
        ("DOCKERHUB_REPO", ""),
        ("DOCKERHUB_IMG", "a/b"),
        ("RELEASE_VERSION", "1.0 $(id)"),
        ("CUDA_VERSION", "12.6.3"),
        ("PYTHON_VERSION", "3.12.7"),
        ("COMFYUI_VERSION", "newest"),
        ("COMFYUI_COMMIT", "b0b7435"),
        ("PYTORCH", "2.14.1"),
        ("PYTORCH_INDEX", "cu130"),
        ("HF_ENDPOINT", "mirror"),
        ("SOURCE_DATE_EPOCH", "today"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{name} is {value!r}, but must match")):
        expand(ROOT / "docker-bake.hcl", {name: value})
    if has_buildx():
        result = bake("--print", "everything", **{name: value})
        assert result.returncode != 0
        assert f"{name} is '{value}', but must match" in result.stderr


@pytest.mark.parametrize("name", ["CUDA_VERSION", "COMFYUI_COMMIT", "BASE_IMAGE"])
def test_an_empty_variable_counts_as_unset(name: str) -> None:
    targets, _ = expand(ROOT / "docker-bake.hcl", {name: ""})
    assert targets["sdxl"]["args"] == DATE | {"MODEL_TYPE": "sdxl"}


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
    names |= set(re.findall(r'optional\("(\w+)"', bake_text))
    assert len(names) > 8
    for name in names:
        assert re.search(rf"^ARG {name}\b", text, re.MULTILINE), name


@pytest.mark.skipif(not has_buildx(), reason="needs docker buildx")
@pytest.mark.parametrize("name", ["everything", *GROUPS, *TARGETS])
def test_buildx_expands_it_to_the_same(name: str) -> None:
    result = bake("--print", name)
    assert result.returncode == 0, result.stderr
    printed: dict[str, Any] = json.loads(result.stdout)["target"]
    assert set(printed) == set(members(name, GROUPS) if name in GROUPS else [name])
    for made, target in printed.items():
        for key in ("target", "tags", "platforms", "labels"):
            assert target[key] == TARGETS[made][key]
        assert target.get("args", {}) == TARGETS[made]["args"]
