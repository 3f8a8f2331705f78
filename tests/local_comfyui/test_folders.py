from __future__ import annotations

import re
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


def test_counters_follow_the_highest_and_a_prefix_fills_in_time_size_and_batch(
    folders: Folders,
) -> None:
    for name in ("5-6-0_00003_.png", "5-6-_00007_.webp", "5-6-b_00009_.png", "5-6-_x_.png"):
        (folders.output / name).touch()
    plain = save_path(folders, "output", "%width%-%height%-", (5, 6))
    dated = save_path(folders, "output", "%year%/%batch_num%")

    assert [plain.file(index, "png").name for index in (0, 1)] == [
        "5-6-_00008_.png",
        "5-6-_00009_.png",
    ]
    assert dated.subfolder == str(time.localtime().tm_year)
    assert dated.file(2, "png").name == "2_00003_.png"


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


def test_an_annotation_names_the_folder() -> None:
    assert split_annotation("a.png") == ("a.png", None)
    assert split_annotation("sub/a b.png [temp]") == ("sub/a b.png", "temp")
    assert split_annotation("a.png[output]") == ("a.png", "output")
    assert split_annotation("a.png [models]") == ("a.png [models]", None)


EXTRA = """# more models
volume:
  base_path: volume   # relative to this file
  is_default: true
  'checkpoints': "models/checkpoints"
  clip: |

    models/clip
    models/text # encoders
  vae: >-
    models/vae
  own_kind: models/own
empty:
other:
    "loras": other/loras
"""
FILES = """volume/models/checkpoints/sub/a.safetensors  volume/models/clip/b.pt
volume/models/text # encoders/c.pt  other/loras/d.pt  other/loras/d.pt.part  volume/models/vae/f.pth
volume/models/own/g.sft  base/models/checkpoints/e.ckpt  base/models/checkpoints/notes.txt
base/models/configs/any.yaml  linked/h.safetensors"""


def test_models_are_found_in_extra_folders_too(tmp_path: Path) -> None:
    config = tmp_path / "extra_model_paths.yaml"
    config.write_text(EXTRA)
    for path in (tmp_path / name for name in re.split(r"  |\n", FILES)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "other/loras/more").symlink_to(tmp_path / "linked")
    flags = ["--base-directory", str(tmp_path / "base"), "--extra-model-paths-config", str(config)]
    found = Folders.from_arguments(parse(flags), tmp_path)

    kinds = ("checkpoints", "text_encoders", "loras", "vae", "configs", "own_kind")
    assert {kind: found.model_files(kind) for kind in kinds} == {
        "checkpoints": ["e.ckpt", "sub/a.safetensors"],
        "text_encoders": ["b.pt", "c.pt"],
        "loras": ["d.pt", "more/h.safetensors"],
        "vae": ["f.pth"],
        "configs": ["any.yaml"],
        "own_kind": ["g.sft"],
    }
    assert found.model_kinds[-1] == "own_kind"


def test_a_missing_file_of_extra_folders_ends_the_start(tmp_path: Path) -> None:
    flags = ["--extra-model-paths-config", str(tmp_path / "missing.yaml")]

    with pytest.raises(FileNotFoundError):
        Folders.from_arguments(parse(flags), tmp_path)
