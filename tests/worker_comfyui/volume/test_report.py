from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from tests.support.volume import cached_model, weights
from tests.support.waiting import wait_until
from worker_comfyui.config import Settings
from worker_comfyui.volume import report
from worker_comfyui.volume.layout import Layout
from worker_comfyui.volume.survey import survey
from worker_comfyui.volume.walk import Budget

NF4 = "HunyuanImage-3.0-Instruct-Distil-NF4"


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    root = tmp_path / "volume"
    checkpoints = root / "models" / "checkpoints"
    weights(checkpoints / "good.safetensors", 2_000_000)
    weights(checkpoints / "xl" / "deep.safetensors")
    (checkpoints / "put_checkpoints_here").touch()
    (checkpoints / "good.png").touch()
    (checkpoints / "empty.safetensors").touch()
    (checkpoints / "more.safetensors.part").touch()
    (checkpoints / "old.zip").touch()
    (checkpoints / "pointer.ckpt").write_text("version https://git-lfs.github.com/spec/v1\n")
    weights(root / "models" / "lost.safetensors")
    weights(root / "models" / "ipadapter" / "ip.safetensors")
    weights(root / "loras" / "style.safetensors")
    weights(root / "ComfyUI" / "models" / "vae" / "v.safetensors")
    weights(root / "models" / "unet" / "old-name.safetensors")
    weights(root / "models" / "diffusers" / "pipe" / "unet" / "d.safetensors")
    (root / "models" / "diffusers" / "pipe" / "model_index.json").write_text("{}")
    weights(root / "models" / NF4 / "model-1.safetensors")
    (root / "models" / "configs").mkdir()
    (root / "models" / "configs" / "v1.yaml").write_text("a: 1")
    (root / "models" / "loras").mkdir()
    unfinished = root / "models" / "loras" / ".cache" / "huggingface" / "download"
    unfinished.mkdir(parents=True)
    (unfinished / "x.incomplete").touch()
    (unfinished / "x.lock").touch()
    return root


def text(root: Path) -> str:
    return "\n".join(report.lines(root))


def test_what_lies_in_the_folders_is_found_and_the_rest_has_its_reason(volume: Path) -> None:
    found = survey(Layout.read(volume), Budget(entries=1000, seconds=10))
    checkpoints = found.kinds["checkpoints"]
    assert set(checkpoints.found) == {"good.safetensors", "xl/deep.safetensors"}
    assert checkpoints.found["good.safetensors"] > 2_000_000
    reasons = {path.rpartition("/")[2]: why for path, why in checkpoints.ignored.items()}
    assert set(reasons) == {
        "empty.safetensors",
        "more.safetensors.part",
        "old.zip",
        "pointer.ckpt",
    }
    assert reasons["empty.safetensors"].startswith("empty")
    assert "partial download" in reasons["more.safetensors.part"]
    assert "wrong ending .zip" in reasons["old.zip"]
    assert "git-lfs" in reasons["pointer.ckpt"]
    assert set(found.kinds["diffusion_models"].found) == {"old-name.safetensors"}
    assert set(found.kinds["diffusers"].found) == {"pipe"}
    assert set(found.kinds["configs"].found) == {"v1.yaml"}
    [unfinished] = found.kinds["loras"].ignored
    assert unfinished.endswith("x.incomplete")
    assert found.is_whole


def test_files_elsewhere_are_told_where_they_belong(volume: Path) -> None:
    found = survey(Layout.read(volume), Budget(entries=1000, seconds=10))
    assert set(found.elsewhere) == {
        "models/lost.safetensors",
        "models/ipadapter/ip.safetensors",
        "loras/style.safetensors",
        "ComfyUI/models/vae/v.safetensors",
    }
    assert found.elsewhere["loras/style.safetensors"] == "move it to models/loras"
    assert found.elsewhere["ComfyUI/models/vae/v.safetensors"] == "move it to models/vae"
    assert "such as models/checkpoints" in found.elsewhere["models/lost.safetensors"]
    assert "custom node" in found.elsewhere["models/ipadapter/ip.safetensors"]


def test_the_report_names_it_all(volume: Path) -> None:
    snapshot = cached_model(volume, "o/n", ("split_files/vae/ae.safetensors", "x.safetensors"))
    cached_model(volume, "o/empty", ()).rmdir()
    said = text(volume)
    assert said.startswith(f"network volume: {volume} (a plain folder: nothing is mounted there), ")
    assert "checkpoints: 2 found, 2.0 MB (models/checkpoints)\n  good.safetensors (2.0 MB)" in said
    assert "ignored: models/checkpoints/old.zip: wrong ending .zip" in said
    assert "lies where ComfyUI does not look: loras/style.safetensors: move it to" in said
    assert f"Hunyuan: {NF4} (models/{NF4})" in said
    assert f"cached model o/n, revision {snapshot.name}:\n" in said
    assert "  vae/ae.safetensors (its split_files/vae/ae.safetensors)" in said
    assert "ignored: x.safetensors: its kind is not known" in said
    assert "cached model o/empty: nothing is there yet" in said
    assert "nothing for: " in said
    assert said.splitlines()[-1].startswith("looked at ")


def test_without_a_volume_the_report_says_so(tmp_path: Path) -> None:
    assert text(tmp_path / "none").startswith(f"network volume: none at {tmp_path / 'none'}")


def test_a_volume_without_models_shows_what_it_has_instead(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert f"there is no {tmp_path}/models, where models belong; there is: data" in text(tmp_path)


def test_a_mounted_file_system_is_named() -> None:
    assert next(report.lines(Path("/proc"))).startswith("network volume: /proc (proc")


def test_a_long_list_is_counted(tmp_path: Path) -> None:
    for number in range(report.MAX_SHOWN + 5):
        weights(tmp_path / "models" / "loras" / f"{number:03}.safetensors")
        (tmp_path / "models" / "loras" / f"{number:03}.zip").touch()
    said = text(tmp_path)
    assert f"loras: {report.MAX_SHOWN + 5} found" in said
    assert "  and 5 more" in said
    assert "  ignored: 5 more" in said
    assert len(said.splitlines()) < 2 * report.MAX_SHOWN + 12


def test_a_volume_that_is_too_full_is_reported_in_part(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MAX_ENTRIES", 10)
    assert "looked at 10 files and folders" in text(volume)
    assert text(volume).endswith("there are more")


def wait_for_threads() -> None:
    wait_until(lambda: not any(thread.name == "report" for thread in threading.enumerate()))


def test_the_report_is_logged_when_it_is_wanted(
    volume: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    report.start(Settings(runpod_volume_path=volume))
    wait_for_threads()
    assert caplog.records == []
    report.start(Settings(runpod_volume_path=volume, network_volume_debug=True))
    wait_for_threads()
    assert [record.getMessage() for record in caplog.records] != []
    assert {vars(record)["event"] for record in caplog.records} == {"network_volume"}
