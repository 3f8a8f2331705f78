from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.volume import REVISION, cached_model
from worker_comfyui.volume.cached_models import (
    VARIANTS,
    CachedModel,
    destinations,
    find,
    place,
    snapshot_of,
)
from worker_comfyui.volume.layout import Layout
from worker_comfyui.volume.walk import Budget

LAYOUT = Layout.read(Path("/volume"))
OTHER = "f" * 40


def found(volume: Path) -> list[CachedModel]:
    return find(Layout.read(volume), Budget(entries=1000, seconds=10))


def test_a_volume_without_cached_models_has_none(tmp_path: Path) -> None:
    assert found(tmp_path) == []
    (tmp_path / "huggingface-cache/hub").mkdir(parents=True)
    assert found(tmp_path) == []


def test_the_files_of_a_split_repository_go_by_their_folders(tmp_path: Path) -> None:
    snapshot = cached_model(
        tmp_path,
        "Some-Org/some_model",
        ("split_files/text_encoders/te.safetensors", "split_files/vae/sub/v.safetensors", "a.md"),
    )
    [model] = found(tmp_path)
    assert model.repository == "Some-Org/some_model"
    assert model.snapshot == snapshot
    assert model.left_out == {}
    assert model.placed == {
        "text_encoders/te.safetensors": "split_files/text_encoders/te.safetensors",
        "vae/sub/v.safetensors": "split_files/vae/sub/v.safetensors",
    }


def test_the_files_of_every_variant_go_where_its_image_has_them() -> None:
    known = destinations(VARIANTS)
    variants = json.loads(VARIANTS.read_text())["variants"].values()
    files = [file for variant in variants for file in variant.get("files", ())]
    assert len(files) > 10
    for file in files:
        placed, left_out = place(file["repository"], [file.get("path", "x")], LAYOUT, known)
        assert placed == {file["destination"].rstrip("/"): file.get("path", ".")}
        assert left_out == {}


def test_without_the_list_of_variants_folders_still_count(tmp_path: Path) -> None:
    known = destinations(tmp_path / "none.json")
    assert known == {}
    placed, left_out = place("o/n", ["loras/a.safetensors", "b.safetensors"], LAYOUT, known)
    assert placed == {"loras/a.safetensors": "loras/a.safetensors"}
    assert list(left_out) == ["b.safetensors"]


def test_old_folder_names_are_understood() -> None:
    placed, _ = place("o/n", ["unet/a.safetensors", "clip/b.safetensors"], LAYOUT, {})
    assert set(placed) == {"diffusion_models/a.safetensors", "text_encoders/b.safetensors"}


def test_a_pipeline_is_one_model_and_its_parts_are_none() -> None:
    files = ["model_index.json", "unet/diffusion_pytorch_model.safetensors", "one.safetensors"]
    placed, left_out = place("org/Pipe", files, LAYOUT, {("org/pipe", files[2]): "checkpoints/one"})
    assert placed == {"diffusers/Pipe": ".", "checkpoints/one": "one.safetensors"}
    assert left_out == {}


def test_a_hunyuan_repository_is_one_folder() -> None:
    files = ["config.json", "vae/model.safetensors"]
    assert place("o/HunyuanImage-3-Instruct-X", files, LAYOUT, {}) == (
        {"HunyuanImage-3-Instruct-X": "."},
        {},
    )


def test_main_says_which_snapshot_is_used(tmp_path: Path) -> None:
    wanted = cached_model(tmp_path, "o/n", ("vae/a.safetensors",))
    newer = cached_model(tmp_path, "o/n", ("vae/b.safetensors",), revision=OTHER, main=None)
    os.utime(newer, (2e9, 2e9))
    assert snapshot_of(wanted.parents[1]) == wanted


@pytest.mark.parametrize("main", [None, "", "../..", "/etc", "a" * 40, "..", "x\0y"])
def test_without_a_usable_main_the_newest_snapshot_is_used(
    tmp_path: Path, main: str | None
) -> None:
    newer = cached_model(tmp_path, "o/n", ("vae/a.safetensors",), main=main)
    older = cached_model(tmp_path, "o/n", ("vae/b.safetensors",), revision=OTHER, main=main)
    os.utime(newer, (2e9, 2e9))
    os.utime(older, (1e9, 1e9))
    assert snapshot_of(newer.parents[1]) == newer


@pytest.mark.parametrize("what", ["no snapshots", "empty", "binary main"])
def test_a_repository_without_a_snapshot_is_found_with_nothing(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "huggingface-cache/hub/models--o--n"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_bytes(b"\xff\xfe" if what == "binary main" else REVISION.encode())
    if what == "empty":
        (folder / "snapshots").mkdir()
    assert found(tmp_path) == [CachedModel("o/n", None, {}, {})]


def test_a_link_that_leads_nowhere_is_not_placed(tmp_path: Path) -> None:
    snapshot = cached_model(tmp_path, "o/n", ("vae/a.safetensors", "vae/b.safetensors", "r.md"))
    (snapshot / "vae/b.safetensors").resolve().unlink()
    (snapshot / "r.md").resolve().unlink()
    [model] = found(tmp_path)
    assert model.placed == {"vae/a.safetensors": "vae/a.safetensors"}
    assert model.left_out == {
        "vae/b.safetensors": "a link that leads nowhere: the download is not complete"
    }


def test_files_that_are_no_folders_are_passed_over(tmp_path: Path) -> None:
    hub = tmp_path / "huggingface-cache/hub"
    hub.mkdir(parents=True)
    (hub / "models--o--n").write_text("x")
    (hub / "version.txt").write_text("1")
    assert found(tmp_path) == []


@pytest.mark.parametrize("inner", ["", f"snapshots/{REVISION}"])
def test_what_runpod_s_model_store_has_is_placed_too(tmp_path: Path, inner: str) -> None:
    revision = tmp_path / "store" / "some-org" / "some_model" / REVISION
    file = revision / inner / "vae" / "v.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    older = revision.with_name(OTHER)
    older.mkdir()
    os.utime(older, (1, 1))
    (revision / "config.json").touch()
    layout, budget = Layout.read(tmp_path / "volume"), Budget(entries=1000, seconds=10)
    [model] = find(layout, budget, model_store=tmp_path / "store")
    assert model.repository == "some-org/some_model"
    assert model.snapshot == revision / inner
    assert model.placed == {"vae/v.safetensors": "vae/v.safetensors"}


def test_a_model_in_both_of_runpod_s_places_is_one(tmp_path: Path) -> None:
    snapshot = cached_model(tmp_path, "Some-Org/some_model", ("vae/v.safetensors",))
    (tmp_path / "store" / "some-org" / "some_model" / REVISION).mkdir(parents=True)
    layout, budget = Layout.read(tmp_path), Budget(entries=1000, seconds=10)
    [model] = find(layout, budget, model_store=tmp_path / "store")
    assert model.snapshot == snapshot
