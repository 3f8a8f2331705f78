from __future__ import annotations

import time
from pathlib import Path

import pytest

from local_comfyui.arguments import parse
from local_comfyui.folders import Folders, OutsideFolderError, inside, split_annotation
from local_comfyui.save_path import save_path


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    found = Folders.from_arguments(parse(["--base-directory", str(tmp_path)]), tmp_path)
    found.create()
    return found


def test_counters_follow_the_highest_of_any_kind_of_file(folders: Folders) -> None:
    for name in ("a_00003_.png", "a_00007_.webp", "ab_00009_.png", "a_x_.png"):
        (folders.output / name).touch()

    path = save_path(folders, "output", "a")

    assert [path.file(index, "png").name for index in (0, 1)] == ["a_00008_.png", "a_00009_.png"]


def test_a_prefix_fills_in_time_size_and_place_in_the_batch(folders: Folders) -> None:
    path = save_path(folders, "output", "%year%/%width%-%height%-%batch_num%", (5, 6))

    assert path.subfolder == str(time.localtime().tm_year)
    assert path.file(2, "png").name == "5-6-2_00003_.png"


@pytest.mark.parametrize("prefix", ["../x", "/x", "a/../../x", "x\0y", ".", ""])
def test_a_prefix_must_stay_in_the_folder(folders: Folders, prefix: str) -> None:
    with pytest.raises(OutsideFolderError):
        save_path(folders, "output", prefix)


def test_a_link_that_leads_out_of_a_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)

    assert inside(folder, "a/b.png") == folder.resolve() / "a" / "b.png"
    with pytest.raises(OutsideFolderError):
        inside(folder, "link/secret")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", ("a.png", None)),
        ("a.png [output]", ("a.png", "output")),
        ("sub/a b.png [temp]", ("sub/a b.png", "temp")),
        ("a.png[input]", ("a.png", "input")),
        ("a.png [models]", ("a.png [models]", None)),
    ],
)
def test_an_annotation_names_the_folder(name: str, expected: tuple[str, str | None]) -> None:
    assert split_annotation(name) == expected


def test_models_are_found_in_extra_folders_too(tmp_path: Path) -> None:
    config = tmp_path / "extra_model_paths.yaml"
    config.write_text(
        "# more models\n"
        "volume:\n"
        "  base_path: volume   # relative to this file\n"
        "  is_default: true\n"
        "  'checkpoints': \"models/checkpoints\"\n"
        "  clip: |\n"
        "\n"
        "    models/clip\n"
        "    models/text # encoders\n"
        "  vae: >-\n"
        "    models/vae\n"
        "  own_kind: models/own\n"
        "empty:\n"
        "other:\n"
        '    "loras": other/loras\n'
    )
    for name in ("volume/models/checkpoints/sub/a.safetensors", "volume/models/clip/b.pt",
                 "volume/models/text # encoders/c.pt", "other/loras/d.pt", "other/loras/d.pt.part",
                 "volume/models/vae/f.pth", "volume/models/own/g.sft",
                 "base/models/checkpoints/e.ckpt", "base/models/checkpoints/notes.txt",
                 "base/models/configs/any.yaml", "linked/h.safetensors"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "other/loras/more").symlink_to(tmp_path / "linked")
    flags = ["--base-directory", str(tmp_path / "base"), "--extra-model-paths-config", str(config)]

    found = Folders.from_arguments(parse(flags), tmp_path)

    assert found.model_files("checkpoints") == ["e.ckpt", "sub/a.safetensors"]
    assert found.model_files("text_encoders") == ["b.pt", "c.pt"]
    assert found.model_files("loras") == ["d.pt", "more/h.safetensors"]
    assert found.model_files("vae") == ["f.pth"]
    assert found.model_files("configs") == ["any.yaml"]
    assert found.model_files("own_kind") == ["g.sft"]
    assert found.model_kinds[-1] == "own_kind"


def test_a_missing_file_of_extra_folders_ends_the_start(tmp_path: Path) -> None:
    flags = ["--extra-model-paths-config", str(tmp_path / "missing.yaml")]

    with pytest.raises(FileNotFoundError):
        Folders.from_arguments(parse(flags), tmp_path)
