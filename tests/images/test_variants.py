"""The list of model variants: its schema, and what the build reads out of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from models.variants import (
    LIST,
    MAX_FILES,
    ModelFile,
    UnknownVariantError,
    find,
    load,
    snapshot,
    write_plan,
)

ROOT = Path(__file__).parents[2]
SCHEMA: dict[str, Any] = json.loads(LIST.with_name("variants.schema.json").read_text())
VARIANTS = load()


def violations(variants: dict[str, Any]) -> list[str]:
    document = {"variants": {"base": VARIANTS["base"], **variants}}
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(document)]


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_the_list_follows_its_schema() -> None:
    assert violations(VARIANTS) == []


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ({"repository": "a/b", "destination": "x"}, "valid under any of the given schemas"),
        ({"repository": "a/b", "destination": "../x", "bytes": 1}, "does not match"),
        ({"repository": "a/b", "destination": "/x", "bytes": 1}, "does not match"),
        ({"repository": "b", "destination": "x", "bytes": 1}, "does not match"),
        ({"repository": "a/b", "destination": "x", "bytes": 1, "revision": "main"}, "not match"),
        ({"repository": "a/b", "destination": "x", "bytes": 1, "sha256": "abc"}, "does not match"),
        ({"repository": "a/b", "destination": "x", "bytes": 1, "sah256": "0"}, "unexpected"),
        ({"repository": "a/b", "destination": "x", "bytes": 1, "bytes_about": 1}, "is valid under"),
    ],
)
def test_the_schema_refuses_a_wrong_entry(file: dict[str, Any], problem: str) -> None:
    variant = {"title": "t", "vram_gb": 1, "licence": "l", "workflow": "w.json", "files": [file]}
    assert problem in " ".join(violations({"new": variant}))


def test_no_two_files_of_a_variant_go_to_the_same_place() -> None:
    for name, variant in VARIANTS.items():
        places = [file["destination"] for file in variant.get("files", [])]
        assert len(set(places)) == len(places), name


def test_a_hash_comes_with_an_exact_size() -> None:
    for variant in VARIANTS.values():
        for file in variant.get("files", []):
            assert ("sha256" in file) == ("bytes" in file), file["destination"]


def test_an_unknown_variant_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UnknownVariantError, match=r"no variant 'sd4'; there are: base, sdxl"):
        find("sd4", VARIANTS)


def test_a_rough_size_is_not_taken_for_an_exact_one() -> None:
    rough = ModelFile.from_json({"repository": "a/b", "destination": "c", "bytes_about": 5})
    exact = ModelFile.from_json({"repository": "a/b", "destination": "c", "bytes": 5})
    assert (rough.size, rough.exact) == (5, False)
    assert (exact.size, exact.exact) == (5, True)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_plan_of_a_build_has_a_folder_for_each_stage(name: str, tmp_path: Path) -> None:
    write_plan(VARIANTS[name], tmp_path)
    expected = VARIANTS[name].get("files", [])
    folders = [tmp_path / "files" / str(number) for number in range(1, MAX_FILES + 1)]
    planned = [json.loads((f / "file.json").read_text()) for f in folders if list(f.iterdir())]
    assert planned == expected
    assert (tmp_path / "nodes" / "snapshot.json").exists() == ("custom_nodes" in VARIANTS[name])


def test_the_plan_of_one_file_does_not_depend_on_the_others(tmp_path: Path) -> None:
    changed = json.loads(json.dumps(VARIANTS["sdxl"]))
    changed["files"][1]["sha256"] = "0" * 64
    write_plan(VARIANTS["sdxl"], tmp_path / "before")
    write_plan(changed, tmp_path / "after")
    for number, same in ((1, True), (2, False), (3, True)):
        name = f"files/{number}/file.json"
        before, after = ((tmp_path / when / name).read_bytes() for when in ("before", "after"))
        assert (before == after) is same


def test_more_files_than_stages_are_refused(tmp_path: Path) -> None:
    files = [{"destination": str(number)} for number in range(MAX_FILES + 1)]
    with pytest.raises(ValueError, match="the Dockerfile has stages for 6"):
        write_plan({"files": files}, tmp_path)


def test_the_build_fails_with_a_sentence_for_an_unknown_model_type(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "models.variants", "sd4", str(tmp_path)],
        cwd=ROOT / "src",
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("MODEL_TYPE: There is no variant 'sd4'; there are: base, ")


def test_custom_nodes_become_a_snapshot() -> None:
    nodes = VARIANTS["hunyuan-instruct-nf4"]["custom_nodes"]
    assert snapshot(VARIANTS["hunyuan-instruct-nf4"]) == {
        "git_custom_nodes": {
            nodes[0]["repository"]: {"hash": nodes[0]["revision"], "disabled": False}
        },
        "pips": dict.fromkeys(nodes[0]["packages"], ""),
    }
