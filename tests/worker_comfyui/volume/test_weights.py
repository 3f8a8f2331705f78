from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.volume import weights
from worker_comfyui.volume.weights import MAX_HEADER_BYTES, problem


def file(tmp_path: Path, name: str, content: bytes = b"weights") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_a_whole_file_has_no_problem(tmp_path: Path) -> None:
    assert problem(weights(tmp_path / "a.safetensors"), "loras") is None
    assert problem(weights(tmp_path / "A.SAFETENSORS"), "loras") is None
    assert problem(file(tmp_path, "a.ckpt"), "checkpoints") is None
    assert problem(file(tmp_path, "v1.yaml"), "configs") is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.safetensors", b"", "empty"),
        ("a.safetensors.part", b"x", "partial download (.part)"),
        ("a.safetensors.incomplete", b"x", "partial download (.incomplete)"),
        ("a.safetensors.aria2", b"x", "partial download (.aria2)"),
        ("a.zip", b"x", "wrong ending .zip"),
        ("a", b"x", "wrong ending (none)"),
        ("a.gguf", b"GGUF", "custom node"),
        ("a.ckpt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs"),
        ("a.safetensors", b"  <!DOCTYPE html><html>", "web page"),
        ("a.safetensors", b"short", "not a whole safetensors file (5 bytes)"),
        ("a.safetensors", (1000).to_bytes(8, "little") + b"{}", "not a whole safetensors file"),
        ("a.safetensors", (4).to_bytes(8, "little") + b"abcd", "header cannot be read"),
        ("a.safetensors", (2).to_bytes(8, "little") + b"[]", "header cannot be read"),
        ("a.safetensors", (11).to_bytes(8, "little") + b'{"a": "bc"}', "header cannot be read"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    assert said in str(problem(file(tmp_path, name, content), "checkpoints"))


def test_a_file_that_was_cut_off_is_told_from_its_header(tmp_path: Path) -> None:
    path = weights(tmp_path / "a.safetensors", 1000)
    os.truncate(path, path.stat().st_size - 300)
    assert str(problem(path, "vae")).startswith("cut off: 300 bytes are missing")


def test_a_huge_header_is_not_read(tmp_path: Path) -> None:
    path = file(tmp_path, "a.safetensors", (MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
    os.truncate(path, MAX_HEADER_BYTES + 100)
    assert problem(path, "vae") is None


def test_a_link_that_leads_nowhere_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").symlink_to(tmp_path / "gone")
    assert problem(tmp_path / "a.safetensors", "vae") == "a link that leads nowhere"
