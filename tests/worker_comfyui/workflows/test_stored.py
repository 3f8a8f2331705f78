"""A name finds its stored workflow, and never anything else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker_comfyui.errors import InvalidRequest
from worker_comfyui.workflows.stored import MAX_IN_MESSAGE, MAX_LISTED, StoredWorkflows


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    image, volume = tmp_path / "image", tmp_path / "volume"
    (image / "people").mkdir(parents=True)
    volume.mkdir()
    (image / "portrait.json").write_text('{"from": "image"}')
    (image / "people" / "group.json").write_text('{"from": "people"}')
    (volume / "portrait.json").write_text('{"from": "volume"}')
    (volume / "video.json").write_text('{"from": "volume"}')
    (tmp_path / "secret.json").write_text("{}")
    return [image, volume, tmp_path / "absent"]


@pytest.fixture
def stored(folders: list[Path]) -> StoredWorkflows:
    return StoredWorkflows(folders)


def refusal(stored: StoredWorkflows, name: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        stored.find(name)
    assert caught.value.details[0]["path"] == "workflow"
    return caught.value.message


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("portrait", "image"),
        ("portrait.json", "image"),
        ("people/group", "people"),
        ("video", "volume"),
    ],
)
def test_a_name_is_found_in_the_first_folder_that_has_it(
    stored: StoredWorkflows, name: str, origin: str
) -> None:
    assert stored.find(name) == {"from": origin}


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "people/../../secret",
        "/etc/passwd",
        "..",
        ".",
        "a//b",
        "people\\group",
        "C:secret",
        "portrait\0",
        "a\nb",
        "x" * 300,
        " /secret",
    ],
)
def test_a_path_is_not_a_name(stored: StoredWorkflows, name: str) -> None:
    assert "nor an http(s) URL, nor the name of a stored workflow" in refusal(stored, name)


def test_a_link_out_of_the_folder_is_not_followed(
    stored: StoredWorkflows, folders: list[Path]
) -> None:
    (folders[0] / "out.json").symlink_to(folders[0].parent / "secret.json")
    (folders[0] / "outside").symlink_to(folders[0].parent)
    assert "there is no stored workflow" in refusal(stored, "out")
    assert "there is no stored workflow" in refusal(stored, "outside/secret")


def test_a_link_inside_the_folder_and_a_linked_folder_are_followed(
    stored: StoredWorkflows, folders: list[Path], tmp_path: Path
) -> None:
    (folders[0] / "alias.json").symlink_to("portrait.json")
    assert stored.find("alias") == {"from": "image"}
    (tmp_path / "linked").symlink_to(folders[0])
    assert StoredWorkflows([tmp_path / "linked"]).find("portrait") == {"from": "image"}


def test_a_loop_of_links_and_a_folder_are_no_workflows(
    stored: StoredWorkflows, folders: list[Path]
) -> None:
    (folders[0] / "loop.json").symlink_to("loop.json")
    (folders[0] / "folder.json").mkdir()
    assert "there is no stored workflow 'loop'" in refusal(stored, "loop")
    assert "there is no stored workflow 'folder'" in refusal(stored, "folder")


def test_an_unknown_name_suggests_the_closest(stored: StoredWorkflows) -> None:
    assert "did you mean 'portrait'?" in refusal(stored, "portrai")


def test_an_unknown_name_lists_what_there_is(stored: StoredWorkflows) -> None:
    assert "there are 'people/group', 'portrait', 'video'" in refusal(stored, "zzzz")


def test_without_any_it_names_the_folders(tmp_path: Path) -> None:
    assert f"none are stored in {tmp_path}" in refusal(StoredWorkflows([tmp_path]), "a")


def test_the_listing_has_every_name_once_and_the_folders(
    stored: StoredWorkflows, folders: list[Path]
) -> None:
    assert stored.listing() == {
        "workflows": {
            "action": "list",
            "folders": [str(folder) for folder in folders],
            "names": ["people/group", "portrait", "video"],
        }
    }


def test_the_listing_names_only_what_runs(stored: StoredWorkflows, folders: list[Path]) -> None:
    """Neither what is no name or leads elsewhere, nor what editors and file systems leave."""
    (folders[0] / "out.json").symlink_to(folders[0].parent / "secret.json")
    (folders[0] / "a:b.json").write_text("{}")
    (folders[0] / "._portrait.json").write_text("{}")
    (folders[0] / ".ipynb_checkpoints").mkdir()
    (folders[0] / ".ipynb_checkpoints" / "portrait-checkpoint.json").write_text("{}")
    names = stored.listing()["workflows"]["names"]
    assert names == ["people/group", "portrait", "video"]
    for name in names:
        stored.find(name)


def test_the_listing_and_the_message_are_bounded(tmp_path: Path) -> None:
    for number in range(MAX_LISTED + 1):
        (tmp_path / f"w{number:04}.json").write_text("{}")
    listing = StoredWorkflows([tmp_path]).listing()
    assert len(listing["workflows"]["names"]) == MAX_LISTED
    assert listing["errors"] == ["only the first 2000 stored workflows are listed"]
    assert f"and {MAX_IN_MESSAGE - 10} more" in refusal(StoredWorkflows([tmp_path]), "zzzz")


@pytest.mark.parametrize("content", [b"not json", b"\xff\xfe{", b"[" * 100_000])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    assert "'broken' is not JSON" in refusal(StoredWorkflows([tmp_path]), "broken")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.json").open("wb") as file:
        os.truncate(file.fileno(), 65 * 1024 * 1024)
    assert "is too large" in refusal(StoredWorkflows([tmp_path]), "large")
