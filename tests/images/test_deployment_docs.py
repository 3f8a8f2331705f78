"""The documentation's tables say what the lists say."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import yaml

from models.variants import load
from tests.images.bake import expand

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
VARIANTS = load()
BASE_GB = 8
JOBS_GB = 2  # for the files of jobs
"""The image without models, as docs/deployment.md says."""


def between(document: str, start: str) -> list[str]:
    """The lines of a table that a comment begins and `<!-- end -->` ends, without its head."""
    text = (ROOT / document).read_text()
    assert f"<!-- {start}" in text, f"{document}: no {start}"
    part = text.split(f"<!-- {start}")[1].split("-->", 1)[1].split("<!-- end -->")[0]
    lines = part.strip().splitlines()
    return lines[2:] if lines[:1] and lines[0].startswith("|") else lines


def row(name: str, variant: dict[str, Any]) -> str:
    """An image's line in docs/deployment.md."""
    return f"| {' | '.join(cells(name, variant))} |"


def short_row(name: str, variant: dict[str, Any]) -> str:
    """An image's line in the README."""
    return f"| {' | '.join(cells(name, variant)[:5])} |"


def cells(name: str, variant: dict[str, Any]) -> list[str]:
    files = variant.get("files", [])
    size = sum(file.get("bytes", file.get("bytes_about", 0)) for file in files) / 1e9
    about = "about " if any("bytes_about" in file for file in files) else ""
    weights = f"{about}{size:.1f} GB" if files else "none"
    token = "yes" if any(file.get("gated") for file in files) else "no"
    memory = f"{variant['vram_gb']} GB" if variant["vram_gb"] else "as its models need"
    disk = math.ceil((size + BASE_GB + JOBS_GB) / 0.9 / 5) * 5
    workflow = variant.get("workflow")
    example = f"[{workflow}](../test_resources/workflows/{workflow})" if workflow else ""
    return [f"`{name}`", variant["title"], weights, token, memory, f"{disk} GB", example]


def test_the_table_of_images_is_the_list_of_variants() -> None:
    assert between("docs/deployment.md", "variants") == [row(*item) for item in VARIANTS.items()]


def test_the_readme_s_table_of_images_is_the_list_of_variants() -> None:
    assert between("README.md", "images") == [short_row(*item) for item in VARIANTS.items()]


def test_the_cold_starts_are_computed_from_the_weights() -> None:
    expected = []
    for name, variant in VARIANTS.items():
        if variant.get("files"):
            size = sum(file.get("bytes", file.get("bytes_about", 0)) for file in variant["files"])
            image, volume = round(size / 1e9), round(size / 300e6)
            expected.append(f"| `{name}` | {size / 1e9:.1f} GB | {image} s | {volume} s |")
    assert between("docs/operating.md", "cold") == expected


def test_the_licences_are_those_of_the_list() -> None:
    expected = [f"- `{name}`: {variant['licence']}" for name, variant in VARIANTS.items()]
    assert between("docs/deployment.md", "licences") == expected


def test_the_table_of_folders_is_the_list_of_paths() -> None:
    [paths] = yaml.safe_load((ROOT / "src" / "extra_model_paths.yaml").read_text()).values()
    del paths["base_path"]
    expected = [
        f"| `{kind}` | {', '.join(f'`{folder}`' for folder in folders.split())} |"
        for kind, folders in paths.items()
    ]
    assert between("docs/network-volumes.md", "kinds") == expected


def test_every_target_that_is_named_exists() -> None:
    targets, groups = expand(ROOT / "docker-bake.hcl", {})
    documents = [*DOCS.glob("*.md"), ROOT / "README.md"]
    named = {
        name
        for path in documents
        for command in re.findall(r"docker buildx bake ([^\n`]*)", path.read_text())
        for name in command.split(" --")[0].split()
        if not name.startswith("-")
    }
    assert {"sdxl", "flux1-dev"} <= named
    assert named <= {*targets, *groups}


def test_every_model_type_that_is_named_exists() -> None:
    for path in [*DOCS.glob("*.md"), ROOT / "README.md"]:
        for name in re.findall(r"MODEL_TYPE=([\w-]+)", path.read_text()):
            assert name in VARIANTS, f"{path.name}: {name}"


def test_every_build_argument_that_is_named_exists() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    for path in [*DOCS.glob("*.md"), ROOT / "README.md"]:
        text = path.read_text()
        for name in re.findall(r"(?:--build-arg |\.args\.)(\w+)", text):
            assert re.search(rf"^ARG {name}\b", dockerfile, re.MULTILINE), f"{path.name}: {name}"


def test_the_table_of_variables_is_that_of_the_build_with_its_defaults() -> None:
    bake = (ROOT / "docker-bake.hcl").read_text()
    variables = dict(re.findall(r'^variable "(\w+)" \{ default = "(.*)" \}$', bake, re.MULTILINE))
    dockerfile = (ROOT / "Dockerfile").read_text()
    arguments = set(re.findall(r"^ARG (\w+)", dockerfile, re.MULTILINE))
    defaults = variables | dict(re.findall(r"^ARG (\w+)=(.+)$", dockerfile, re.MULTILINE))
    table = (DOCS / "deployment.md").read_text().split("### Variables")[1].split("\n### ")[0]
    told: set[str] = set()
    for row in re.findall(r"^\| `.*$", table, re.MULTILINE):
        names, values = (re.findall(r"`([^`]+)`", cell) for cell in row.split("|")[1:3])
        told.update(names)
        if len(values) == len(names):
            assert values == [defaults[name] for name in names]
    assert told == {*variables, *arguments}
    # Of which bake has a target each.
    assert arguments - {"MODEL_TYPE"} <= {*variables}


def test_every_example_request_is_shown() -> None:
    text = " ".join(path.read_text() for path in DOCS.glob("*.md"))
    for path in (ROOT / "test_resources" / "workflows").glob("*.json"):
        assert f"workflows/{path.name}" in text, path.name


def test_the_cuda_lines_are_explained() -> None:
    targets, _ = expand(ROOT / "docker-bake.hcl", {})
    text = (DOCS / "deployment.md").read_text()
    for name, target in targets.items():
        if "CUDA_VERSION" in target["args"]:
            assert f"| `{name}` | CUDA {target['args']['CUDA_VERSION']} |" in text


def test_the_hub_s_disk_is_enough_for_its_image() -> None:
    config = json.loads((ROOT / ".runpod" / "hub.json").read_text())["config"]
    [line] = [
        line for line in between("docs/deployment.md", "variants") if "`flux1-dev-fp8`" in line
    ]
    assert config["containerDiskInGb"] >= int(line.split("|")[6].removesuffix(" GB "))
