from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runpod.client.outputs import safe_name, save_outputs
from tests.support.file_server import serving


def item(name: Any, content: bytes = b"content") -> dict[str, Any]:
    return {"filename": name, "type": "base64", "data": base64.b64encode(content).decode()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_kind_of_output_is_saved_under_its_name(tmp_path: Path) -> None:
    output = {
        "images": [item("a.png", b"1")],
        "videos": [item("b.mp4", b"2")],
        "audio": [item("c.flac", b"3")],
        "files": [item("d.glb", b"4")],
        "texts": [{"node_id": "7", "text": "grüße"}],
        "errors": ["not an output"],
    }
    saved, problems = save_outputs(output, tmp_path / "new" / "folder")
    assert problems == []
    assert {file.path.name: file.path.read_bytes() for file in saved} == {
        "a.png": b"1",
        "b.mp4": b"2",
        "c.flac": b"3",
        "d.glb": b"4",
        "text-7.txt": "grüße".encode(),
    }


def test_no_file_is_ever_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"mine")
    save_outputs({"images": [item("a.png", b"1"), item("a.png", b"2")]}, tmp_path)
    assert (tmp_path / "a.png").read_bytes() == b"mine"
    assert (tmp_path / "a-2.png").read_bytes() == b"1"
    assert (tmp_path / "a-3.png").read_bytes() == b"2"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\evil.exe", "evil.exe"),
        ("C:\\x\\y.png", "y.png"),
        ("..", "images-output"),
        ("", "images-output"),
        (None, "images-output"),
        (7, "images-output"),
        (".bashrc", "bashrc"),
        ("a\x00b\n.png", "a_b_.png"),
        ("a\x1b[2J\x9b\u202e.png", "a_[2J__.png"),
        ("x" * 300 + ".png", "x" * 116 + ".png"),
        ("day_00001_.png", "day_00001_.png"),
    ],
)
def test_names_from_a_result_never_leave_the_folder(
    tmp_path: Path, name: Any, expected: str
) -> None:
    folder = tmp_path / "in" / "side"
    saved, problems = save_outputs({"images": [item(name)]}, folder)
    assert problems == []
    assert [file.path for file in saved] == [folder / expected]
    assert names(tmp_path) == ["in"]


@given(st.text(max_size=300))
@settings(max_examples=500)
def test_any_name_becomes_a_plain_one(tmp_path: Path, name: str) -> None:
    safe = safe_name(name, "fallback")
    assert (tmp_path / safe).parent == tmp_path
    assert safe not in {"", ".", ".."}
    assert len(safe) <= 120
    (tmp_path / safe).write_bytes(b"")


def test_a_data_uri_is_understood(tmp_path: Path) -> None:
    entry = item("a.png", b"1")
    entry["data"] = "data:image/png;base64," + entry["data"]
    (saved,), _ = save_outputs({"images": [entry]}, tmp_path)
    assert saved.path.read_bytes() == b"1"


def test_what_cannot_be_saved_is_named_and_the_rest_is_saved(tmp_path: Path) -> None:
    broken = [
        {"filename": "no-data.png"},
        {"filename": "odd.png", "data": "!!!"},
        {"filename": "gone.png", "type": "s3_url", "data": "http://127.0.0.1:1/gone?X-Sig=secret"},
        {"filename": "file.png", "type": "s3_url", "data": "file:///etc/passwd"},
    ]
    saved, problems = save_outputs({"images": [*broken, item("good.png")]}, tmp_path)
    assert [file.path.name for file in saved] == ["good.png"]
    assert [problem.split(":")[0] for problem in problems] == [
        "no-data.png",
        "odd.png",
        "gone.png",
        "file.png",
    ]
    assert "secret" not in " ".join(problems)
    assert names(tmp_path) == ["good.png"]


@pytest.mark.parametrize("output", ["text", [1, 2], {"answer": 42}, {"images": "odd"}])
def test_a_result_of_unknown_form_is_kept_as_json(tmp_path: Path, output: Any) -> None:
    (saved,), problems = save_outputs(output, tmp_path)
    assert saved.path.name == "result.json"
    assert problems == []


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[str]:
    """A web server over a folder with one object."""
    folder = tmp_path / "bucket"
    folder.mkdir()
    (folder / "object").write_bytes(b"from the bucket")

    with serving(folder) as url:
        yield url


def test_outputs_in_a_bucket_are_downloaded(tmp_path: Path, bucket: str) -> None:
    entries = [
        {"filename": "a.png", "type": "s3_url", "data": f"{bucket}/object?X-Sig=secret"},
        {"filename": "b.png", "type": "s3_url", "data": f"{bucket}/nothing?X-Sig=secret"},
    ]
    saved, problems = save_outputs({"images": entries}, tmp_path / "out")
    assert [file.path.read_bytes() for file in saved] == [b"from the bucket"]
    assert problems == ["b.png: the bucket answered 404; has the address expired?"]
    assert names(tmp_path / "out") == ["a.png"]
