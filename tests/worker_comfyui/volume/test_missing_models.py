from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.recorded import RECORDED
from tests.support.volume import cached_model, weights
from tests.support.waiting import wait_until
from tests.support.worker import WorkerUnderTest, running_worker
from tests.support.workflows import node
from worker_comfyui.config import Settings
from worker_comfyui.errors import Detail
from worker_comfyui.volume.layout import Layout
from worker_comfyui.volume.missing_models import (
    KINDS_BY_CLASS,
    KINDS_BY_INPUT,
    LOADERS,
    MissingModels,
    kind_of_input,
)


def located(volume: Path, class_type: str, name: str, received: Any) -> Detail:
    detail: Detail = {
        "class_type": class_type,
        "input": name,
        "received": received,
        "message": "is wrong",
    }
    return MissingModels(Settings(runpod_volume_path=volume)).locate(detail)


def checkpoint(volume: Path, received: Any) -> Detail:
    return located(volume, "CheckpointLoaderSimple", "ckpt_name", received)


def test_a_file_in_the_folder_of_another_kind_is_found(tmp_path: Path) -> None:
    weights(tmp_path / "models/loras/x.safetensors")
    hint = (
        "found at models/loras/x.safetensors: "
        "move it to models/checkpoints, or load it with LoraLoader"
    )
    assert checkpoint(tmp_path, "x.safetensors") == {
        "class_type": "CheckpointLoaderSimple",
        "input": "ckpt_name",
        "received": "x.safetensors",
        "message": f"is wrong; {hint}",
        "hint": hint,
        "found_at": ["models/loras/x.safetensors"],
    }


@pytest.mark.parametrize(
    ("lies_at", "received", "advice"),
    [
        ("x.safetensors", "x.safetensors", "move it to models/checkpoints"),
        ("ComfyUI/models/checkpoints/x.ckpt", "x.ckpt", "move it to models/checkpoints"),
        ("models/checkpoints/sub/x.ckpt", "x.ckpt", "its name here is 'sub/x.ckpt'"),
        ("models/checkpoints/x.ckpt", "sub/x.ckpt", "its name here is 'x.ckpt'"),
        ("models/checkpoints/x.ckpt", "sub\\x.ckpt", "its name here is 'x.ckpt'"),
        ("models/checkpoints/X.ckpt", "x.ckpt", "its name here is 'X.ckpt'"),
        ("models/checkpoints/x.ckpt", "x.ckpt", "ComfyUI does not list it"),
        ("models/diffusers/x.ckpt", "x.ckpt", "move it to models/checkpoints"),
    ],
)
def test_the_advice_fits_the_place(
    tmp_path: Path, lies_at: str, received: str, advice: str
) -> None:
    weights(tmp_path / lies_at).write_bytes(b"weights")
    if received.endswith(".safetensors"):
        weights(tmp_path / lies_at)
    assert f"found at {lies_at}: {advice}" in checkpoint(tmp_path, received)["hint"]


@pytest.mark.parametrize(
    ("name", "content", "advice"),
    [
        ("x.safetensors", b"", "empty"),
        ("x.safetensors.part", b"1", "a partial download"),
        ("x.safetensors.incomplete", b"1", "a partial download"),
        ("x.safetensors", b"version https://git-lfs.github.com/spec/v1", "a git-lfs pointer"),
    ],
)
def test_a_file_that_cannot_be_used_is_found_with_the_reason(
    tmp_path: Path, name: str, content: bytes, advice: str
) -> None:
    weights(tmp_path / "models/checkpoints" / name).write_bytes(content)
    hint = checkpoint(tmp_path, "x.safetensors")["hint"]
    assert hint.startswith(f"found at models/checkpoints/{name}: {advice}")


def test_a_file_of_the_right_kind_comes_first(tmp_path: Path) -> None:
    for folder in ("loras", "checkpoints/sub", "vae"):
        weights(tmp_path / "models" / folder / "x.safetensors")
    detail = checkpoint(tmp_path, "x.safetensors")
    assert detail["found_at"][0] == "models/checkpoints/sub/x.safetensors"
    assert len(detail["found_at"]) == 3


def test_a_file_of_a_cached_model_that_could_not_be_placed_is_found(tmp_path: Path) -> None:
    cached_model(tmp_path, "o/n", ("x.safetensors",))
    hint = checkpoint(tmp_path, "x.safetensors")["hint"]
    assert hint.startswith("found at x.safetensors of the cached model o/n: its kind is not known")


def test_a_loader_that_is_not_known_gets_the_place_all_the_same(tmp_path: Path) -> None:
    weights(tmp_path / "models/loras/x.safetensors")
    hint = located(tmp_path, "SomeLoader", "weights", "x.safetensors")["hint"]
    assert hint == (
        "found at models/loras/x.safetensors: move it to the folder that this node reads"
    )


@pytest.mark.parametrize(
    "received", ["y.safetensors", "euler", "", "../../etc/passwd", None, 3, ["x.safetensors"]]
)
def test_what_lies_nowhere_or_is_no_model_is_left_as_it_is(tmp_path: Path, received: Any) -> None:
    weights(tmp_path / "models/loras/x.safetensors")
    detail = checkpoint(tmp_path, received)
    assert set(detail) == {"class_type", "input", "received", "message"}
    assert detail["message"] == "is wrong"


def test_without_a_volume_nothing_is_found(tmp_path: Path) -> None:
    assert "hint" not in checkpoint(tmp_path / "none", "x.safetensors")


def test_a_workflow_with_thousands_of_missing_models_reads_the_volume_once(tmp_path: Path) -> None:
    weights(tmp_path / "models/loras/x.safetensors")
    models = MissingModels(Settings(runpod_volume_path=tmp_path))
    detail: Detail = {"class_type": "L", "input": "lora_name", "received": "", "message": ""}
    found = models.locate({**detail, "received": "x.safetensors"})
    assert found["found_at"]
    shutil.rmtree(tmp_path / "models")  # from here on, a second look would find nothing
    for number in range(10_000):
        models.locate({**detail, "received": f"{number}.safetensors"})
        assert models.locate({**detail, "received": "x.safetensors"}) == found


def test_the_kinds_and_loaders_are_comfyui_s() -> None:
    recorded = json.loads((RECORDED / "object_info.json").read_text())
    layout = Layout.read(Path())
    known = {*KINDS_BY_CLASS.values(), *KINDS_BY_INPUT.values(), *LOADERS}
    assert known <= set(layout.folders)
    assert set(KINDS_BY_CLASS) | set(LOADERS.values()) <= set(recorded)
    for kind, loader in LOADERS.items():
        inputs = recorded[loader]["input"]["required"]
        assert kind in {kind_of_input(loader, name) for name in inputs}
    assert kind_of_input("DualCLIPLoader", "clip_name2") == "text_encoders"


def test_the_report_is_repeated_when_a_model_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = Settings(runpod_volume_path=tmp_path, network_volume_debug=True)
    models = MissingModels(settings)
    detail: Detail = {"class_type": "VAELoader", "input": "vae_name", "message": ""}
    models.locate({**detail, "received": "euler"})
    assert not any(thread.name == "report" for thread in threading.enumerate())
    for name in ("x.safetensors", "y.safetensors"):
        models.locate({**detail, "received": name})
    wait_until(lambda: not any(thread.name == "report" for thread in threading.enumerate()))
    starts = [r for r in caplog.records if r.getMessage().startswith("network volume: ")]
    assert len(starts) == 1


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerUnderTest]:
    volume = tmp_path_factory.mktemp("volume")
    weights(volume / "models/loras/misplaced.safetensors")
    weights(volume / "models/checkpoints/there.safetensors")
    cached_model(volume, "Comfy-Org/flux1-dev", ("flux1-dev-fp8.safetensors",))
    (volume / "models" / "HunyuanImage-Instruct").mkdir()
    base = tmp_path_factory.mktemp("comfyui")
    with running_worker(base, RUNPOD_VOLUME_PATH=str(volume)) as running:
        yield running


def loading(name: str) -> dict[str, Any]:
    return {
        "workflow": {
            "1": node("CheckpointLoaderSimple", ckpt_name=name),
            "2": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
            "3": node("VAEDecode", samples=["4", 0], vae=["1", 2]),
            "4": node("EmptyLatentImage", width=64, height=64, batch_size=1),
            "5": node("SaveImage", images=["3", 0], filename_prefix="x"),
        }
    }


@pytest.mark.parametrize("name", ["there.safetensors", "flux1-dev-fp8.safetensors"])
def test_comfyui_accepts_models_of_the_volume_and_of_the_cache(
    worker: WorkerUnderTest, name: str
) -> None:
    assert name in worker.comfyui("/models/checkpoints")
    result = worker.run(loading(name))
    assert result["error_code"] == "EXECUTION_FAILED"  # accepted, but it is no real model


def test_a_refused_workflow_says_where_its_model_lies(worker: WorkerUnderTest) -> None:
    result = worker.run(loading("misplaced.safetensors"))
    assert result["error_code"] == "PROMPT_REJECTED"
    [detail] = result["details"]
    assert detail["found_at"] == ["models/loras/misplaced.safetensors"]
    assert detail["hint"] in result["error"]
    json.dumps(result, allow_nan=False)
    assert not any(thread.name == "report" for thread in threading.enumerate())


def test_hunyuan_folders_are_linked_before_comfyui_starts(worker: WorkerUnderTest) -> None:
    linked = worker.base / "models" / "HunyuanImage-Instruct"
    assert linked.is_symlink()
    assert (worker.base / "models" / "HunyuanImage-Instruct-v2").readlink() == Path(linked.name)
