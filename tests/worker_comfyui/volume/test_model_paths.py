from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.volume import cached_model, weights
from worker_comfyui.config import Settings
from worker_comfyui.volume.layout import EXTRA_MODEL_PATHS
from worker_comfyui.volume.model_paths import ModelPaths

NF4 = "HunyuanImage-3.0-Instruct-Distil-NF4"


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "volume" / "models").mkdir(parents=True)
    return tmp_path / "volume"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "comfyui" / "models").mkdir(parents=True)
    return tmp_path / "comfyui" / "models"


@pytest.fixture
def paths(volume: Path) -> Iterator[ModelPaths]:
    kept = ModelPaths(Settings(runpod_volume_path=volume))
    yield kept
    kept.close()


def sections(path: Path | None) -> dict[str, dict[str, str]]:
    assert path is not None
    read: dict[str, dict[str, str]] = yaml.safe_load(path.read_text())
    return read


def listing(models: Path) -> dict[str, str]:
    """Names in a folder, with where links lead."""
    return {p.name: str(p.readlink()) if p.is_symlink() else "" for p in models.iterdir()}


def test_without_a_volume_nothing_is_made(tmp_path: Path, models: Path) -> None:
    paths = ModelPaths(Settings(runpod_volume_path=tmp_path / "none"))
    assert paths.prepare(models) is None
    assert list((tmp_path / "tmp").iterdir()) == []
    paths.close()


def test_the_volume_s_folders_are_the_listed_ones_wherever_it_is(
    paths: ModelPaths, volume: Path, models: Path
) -> None:
    [listed] = yaml.safe_load(EXTRA_MODEL_PATHS.read_text()).values()
    found = sections(paths.prepare(models))
    assert list(found) == ["network_volume"]
    assert found["network_volume"].pop("base_path") == str(volume)
    del listed["base_path"]
    assert {kind: text.split() for kind, text in found["network_volume"].items()} == {
        kind: text.split() for kind, text in listed.items()
    }


def test_cached_models_lie_under_their_kinds(paths: ModelPaths, volume: Path, models: Path) -> None:
    cached_model(
        volume, "Comfy-Org/z_image_turbo", ("split_files/vae/ae.safetensors", "x.safetensors")
    )
    cached_model(volume, "Comfy-Org/flux1-dev", ("flux1-dev-fp8.safetensors",))
    cached = sections(paths.prepare(models))["cached_models"]
    base = Path(cached.pop("base_path"))
    assert {kind: text.strip() for kind, text in cached.items()} == {
        "vae": "vae",
        "checkpoints": "checkpoints",
    }
    assert (base / "vae/ae.safetensors").is_file()
    assert (base / "checkpoints/flux1-dev-fp8.safetensors").is_file()
    assert len([path for path in base.rglob("*") if path.is_file()]) == 2
    assert listing(models) == {}


def test_the_first_of_two_cached_files_of_one_name_is_used(
    paths: ModelPaths, volume: Path, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = cached_model(volume, "a/one", ("vae/v.safetensors",))
    cached_model(volume, "b/two", ("vae/v.safetensors",))
    base = Path(sections(paths.prepare(models))["cached_models"]["base_path"])
    assert (base / "vae/v.safetensors").samefile(first / "vae/v.safetensors")
    assert "another cached model has vae/v.safetensors already" in caplog.text


def test_nothing_is_ever_written_into_a_cached_model(
    paths: ModelPaths, volume: Path, models: Path
) -> None:
    pipeline = cached_model(volume, "a/pipe", ("model_index.json",))
    cached_model(volume, "b/two", ("diffusers/pipe/v.safetensors",))
    paths.prepare(models)
    assert [path.name for path in pipeline.iterdir()] == ["model_index.json"]


def test_all_is_gone_when_it_is_closed(
    paths: ModelPaths, volume: Path, models: Path, tmp_path: Path
) -> None:
    snapshot = cached_model(volume, "a/one", ("vae/v.safetensors",))
    for _ in range(3):  # ComfyUI was restarted
        paths.prepare(models)
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    paths.close()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert (snapshot / "vae/v.safetensors").is_file()


@pytest.mark.parametrize(
    "parent", ["models", "models/hunyuan", "models/hunyuan_instruct", "."], ids=str
)
def test_hunyuan_folders_get_their_plain_names(
    paths: ModelPaths, volume: Path, models: Path, parent: str
) -> None:
    weights(volume / parent / NF4 / "model.safetensors")
    for _ in range(2):
        paths.prepare(models)
    assert listing(models) == {NF4: str(volume / parent / NF4), f"{NF4}-v2": NF4}
    assert (models / f"{NF4}-v2/model.safetensors").is_file()
    assert (models / NF4).parent == models


@pytest.mark.parametrize("name", ["HunyuanImage-3.0", "Qwen-Instruct", "hunyuan_instruct"])
def test_other_folders_get_no_link(
    paths: ModelPaths, volume: Path, models: Path, name: str
) -> None:
    (volume / "models" / name).mkdir()
    paths.prepare(models)
    assert listing(models) == {}


def test_a_hunyuan_file_is_no_model(paths: ModelPaths, volume: Path, models: Path) -> None:
    (volume / "models" / f"{NF4}.json").write_text("{}")
    paths.prepare(models)
    assert listing(models) == {}


def test_a_folder_named_v2_gets_no_second_link(
    paths: ModelPaths, volume: Path, models: Path
) -> None:
    (volume / "models" / f"{NF4}-v2").mkdir()
    (volume / "models" / NF4).mkdir()
    paths.prepare(models)
    assert listing(models) == {
        NF4: str(volume / "models" / NF4),
        f"{NF4}-v2": str(volume / "models" / f"{NF4}-v2"),
    }


@pytest.mark.parametrize("there", ["folder", "file", "link", "dangling link"])
def test_what_lies_in_comfyui_s_folder_is_never_replaced(
    paths: ModelPaths, volume: Path, models: Path, there: str, caplog: pytest.LogCaptureFixture
) -> None:
    (volume / "models" / NF4).mkdir()
    own = models / NF4
    match there:
        case "folder":
            weights(own / "baked.safetensors")
        case "file":
            own.write_text("mine")
        case "link":
            own.symlink_to(models)
        case "dangling link":
            own.symlink_to("gone")
    before = listing(models)[NF4]
    paths.prepare(models)
    assert listing(models)[NF4] == before
    assert (own / "baked.safetensors").exists() == (there == "folder")
    assert ("leads nowhere" in caplog.text) == (there == "dangling link")


def test_a_cached_hunyuan_repository_has_the_name_of_its_image(
    paths: ModelPaths, volume: Path, models: Path
) -> None:
    snapshot = cached_model(volume, f"EricRollei/{NF4}-v2", ("config.json",))
    paths.prepare(models)
    assert listing(models) == {NF4: str(snapshot), f"{NF4}-v2": NF4}


def test_no_link_is_made_on_the_volume_itself(
    paths: ModelPaths, volume: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (volume / "models" / NF4).mkdir()
    paths.prepare(volume / "models")
    assert listing(volume / "models") == {NF4: ""}
    paths.prepare(volume / "ComfyUI" / "models")
    assert not (volume / "ComfyUI").exists()
    assert "others share" in caplog.text


def test_a_models_folder_that_cannot_be_written_is_a_warning(
    paths: ModelPaths, volume: Path, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (volume / "models" / NF4).mkdir()
    models.rmdir()
    models.write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        assert paths.prepare(models) is not None
    assert "could not be linked" in caplog.text


def test_a_volume_that_fails_does_not_keep_comfyui_from_starting(
    paths: ModelPaths, models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tmp").rmdir()  # no place for the file
    assert paths.prepare(models) is None
    assert "cannot be used" in caplog.text


def test_nothing_is_written_to_the_volume(paths: ModelPaths, volume: Path, models: Path) -> None:
    (volume / "models" / NF4).mkdir()
    cached_model(volume, "o/n", ("vae/v.safetensors",))
    before = {path: path.lstat().st_mtime_ns for path in volume.rglob("*")}
    paths.prepare(models)
    paths.close()
    assert {path: path.lstat().st_mtime_ns for path in volume.rglob("*")} == before


def test_the_folders_of_fetched_models_are_named_with_and_without_a_volume(
    volume: Path, models: Path, tmp_path: Path
) -> None:
    settings = Settings(runpod_volume_path=volume, allow_model_downloads=True)
    paths = ModelPaths(settings)
    found = sections(paths.prepare(models))
    assert found["fetched_models"]["base_path"] == str(volume / "fetched-models" / "models")
    assert found["fetched_models"]["loras"].split() == ["loras"]
    assert found["fetched_links"]["vae"].split() == ["vae"]
    assert "network_volume" in found
    paths.close()
    store = tmp_path / "store"
    alone = Settings(
        runpod_volume_path=tmp_path / "none", model_catalog="[]", model_store_path=store
    )
    paths = ModelPaths(alone)
    found = sections(paths.prepare(models))
    assert found["fetched_models"]["base_path"] == str(store / "models")
    assert "network_volume" not in found
    paths.close()


def test_without_a_wish_for_models_nothing_is_said_of_them(volume: Path, models: Path) -> None:
    paths = ModelPaths(Settings(runpod_volume_path=volume))
    assert not [name for name in sections(paths.prepare(models)) if name.startswith("fetched")]
    paths.close()
