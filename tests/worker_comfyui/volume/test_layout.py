from __future__ import annotations

from pathlib import Path

import pytest

from worker_comfyui.volume.layout import EXTRA_MODEL_PATHS, Layout, endings

LAYOUT = Layout.read(Path("/volume"))


def test_the_kinds_are_those_of_the_project_s_list() -> None:
    assert EXTRA_MODEL_PATHS.is_file()
    assert LAYOUT.folders["checkpoints"] == ("models/checkpoints",)
    assert LAYOUT.folders["text_encoders"] == ("models/text_encoders", "models/clip")
    assert "base_path" not in LAYOUT.folders


def test_without_the_list_there_are_no_kinds(tmp_path: Path) -> None:
    assert Layout.read(tmp_path, tmp_path / "none.yaml").folders == {}


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("models/loras/a.safetensors", ("loras", "a.safetensors")),
        ("models/loras/sub/a.safetensors", ("loras", "sub/a.safetensors")),
        ("models/unet/a.safetensors", ("diffusion_models", "a.safetensors")),
        ("models/vae_approx/a.pt", ("vae_approx", "a.pt")),
        ("models/a.safetensors", None),
        ("loras/a.safetensors", None),
        ("models/loras", None),
        ("models/lorasx/a.safetensors", None),
    ],
)
def test_a_path_is_split_into_its_kind_and_name(path: str, place: tuple[str, str] | None) -> None:
    assert LAYOUT.split(path) == place


def test_a_folder_is_known_by_its_old_name_too() -> None:
    assert LAYOUT.kinds["clip"] == "text_encoders"
    assert LAYOUT.kinds["unet"] == "diffusion_models"
    assert LAYOUT.kinds["t2i_adapter"] == "controlnet"


def test_configurations_have_another_ending_than_weights() -> None:
    assert endings("configs") == {".yaml"}
    assert ".safetensors" in endings("loras")
