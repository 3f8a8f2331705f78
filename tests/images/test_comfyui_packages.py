"""What of ComfyUI's packages an image leaves out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "src" / "comfyui"


def test_the_template_list_is_left_with_what_is_installed(tmp_path: Path) -> None:
    package = tmp_path / "comfyui_workflow_templates_core"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assets = [{"filename": "a.json"}, {"filename": "a-1.webp"}, {"filename": "a.mp4"}]
    manifest = {"templates": [{"id": "a", "assets": assets}]}
    (package / "manifest.json").write_text(json.dumps(manifest))
    script = SCRIPTS / "without_gallery.py"
    subprocess.run([sys.executable, str(script)], env={"PYTHONPATH": str(tmp_path)}, check=True)
    left = json.loads((package / "manifest.json").read_text())
    assert left["templates"][0]["assets"] == [{"filename": "a.json"}]
    missing = subprocess.run(
        [sys.executable, str(script)], env={}, capture_output=True, text=True, check=False
    )
    assert missing.returncode == 1
    assert "is it still in the lock?" in missing.stderr


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment with packages of which some files are not used."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "e")], check=True)
    [packages] = (tmp_path / "e").glob("lib/python*/site-packages")
    for name in [*KEPT, *REMOVED]:
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_bytes(b"x" * 1_000_000)
    return packages


KEPT = [
    "comfyui_frontend_package/static/assets/index.js",
    "numpy/testing/__init__.py",
    "nvidia/cu13/lib/libcusolver.so.12",
    "nvidia/cu13/lib/libnvrtc.so.13",
    "nvidia/nvshmem/lib/libnvshmem_host.so.3",
    "of_a_custom_node/tests/data.bin",
    "triton/backends/nvidia/bin/ptxas",
    "triton/backends/nvidia/lib/libdevice.10.bc",
]
REMOVED = [
    "comfyui_frontend_package/static/assets/index.js.map",
    "nvidia/cu13/lib/libcudart_static.a",
    "nvidia/cu13/lib/libcusolverMg.so.12",
    "nvidia/cuda_nvrtc/lib/libnvrtc.alt.so.12",
    "nvidia/nvshmem/lib/libnvshmem_device.bc",
    "scipy/special/tests/test_basic.py",
    "triton/_C/libproton.so",
    "triton/backends/nvidia/lib/cupti-blackwell/libcupti_static.a",
]


def test_what_no_job_reads_is_removed_and_named_with_its_size(environment: Path) -> None:
    python = environment.parents[2] / "bin" / "python"
    command = [str(python), str(SCRIPTS / "trim.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    left = {path.relative_to(environment).as_posix() for path in environment.rglob("*")}
    assert left >= set(KEPT)
    assert not left & set(REMOVED)
    assert "removed 1 MB: triton/backends/nvidia/lib/cupti* (Triton's profiler)" in done.stdout
    assert len(done.stdout.splitlines()) == len(REMOVED)
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout == ""
