from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from worker_comfyui.comfyui.process import own_folders
from worker_comfyui.comfyui.process.aside import begin, note_all_aside, put_all_aside
from worker_comfyui.comfyui.process.command import FolderFlags, Folders
from worker_comfyui.comfyui.process.own_folders import OwnFolders

SRC = Path(__file__).resolve().parents[4] / "src"
NONE = FolderFlags(input=False, output=False, temp=False)
ALL = FolderFlags(input=True, output=True, temp=True)

OTHER_WORKER = """
import sys
from pathlib import Path
from worker_comfyui.comfyui.process.command import FolderFlags, Folders
from worker_comfyui.comfyui.process.own_folders import OwnFolders
root = Path(sys.argv[1])
folders = OwnFolders()
named = sys.argv[2] == "named"
own = folders.prepare(Folders.of(root, []), FolderFlags(named, named, named))
(own.input / "left.png").write_text("of a caller")
print(own.input, flush=True)
sys.stdin.read()
folders.close()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    """A ComfyUI with input files of the operator's."""
    root = tmp_path / "comfyui"
    (root / "input" / "3d" / "empty").mkdir(parents=True)
    (root / "input" / "example.png").write_text("picture")
    (root / "input" / "3d" / "mesh.glb").write_text("mesh")
    (root / "output").mkdir()
    (root / "output" / "old.png").write_text("old")
    return root


@pytest.fixture
def folders() -> Iterator[OwnFolders]:
    """The folders of a worker."""
    folders = OwnFolders()
    yield folders
    folders.close()


@contextmanager
def other_worker(
    comfyui: Path, temporary: Path, named: str = ""
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    command = [sys.executable, "-c", OTHER_WORKER, str(comfyui), named]
    environment = {**os.environ, "PYTHONPATH": str(SRC), "TMPDIR": str(temporary)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def tree(folder: Path) -> dict[str, str | None]:
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_the_folders_are_its_own_with_a_copy_of_the_input_files(
    folders: OwnFolders, comfyui: Path, temporary: Path
) -> None:
    own = folders.prepare(Folders.of(comfyui, []), NONE)
    assert tree(own.input) == {
        "example.png": "picture",
        "3d": None,
        "3d/mesh.glb": "mesh",
        "3d/empty": None,
    }
    assert tree(own.output) == tree(own.temp) == {}
    for folder in (own.input, own.output, own.temp):
        assert folder.is_relative_to(temporary)
    assert own.temp == own.output.parent / "temp"


def test_what_is_written_there_does_not_reach_the_operator_s_files(
    folders: OwnFolders, comfyui: Path
) -> None:
    before = tree(comfyui)
    own = folders.prepare(Folders.of(comfyui, []), NONE)
    with (own.input / "example.png").open("r+") as file:  # in place
        file.write("another")
    (own.input / "3d" / "mesh.glb").unlink()
    assert tree(comfyui) == before


def test_links_to_files_become_files_and_links_to_folders_stay(
    folders: OwnFolders, comfyui: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.png").write_text("a")
    (comfyui / "input" / "a.png").symlink_to(elsewhere / "a.png")
    (comfyui / "input" / "broken.png").symlink_to("nowhere")
    (comfyui / "input" / "more").symlink_to("../../elsewhere")
    own = folders.prepare(Folders.of(comfyui, []), NONE)
    # Newer versions of ComfyUI refuse a link that leads out of the folder.
    assert not (own.input / "a.png").is_symlink()
    assert (own.input / "a.png").read_text() == "a"
    assert not (own.input / "broken.png").is_symlink()
    assert (own.input / "more" / "a.png").read_text() == "a"


def test_a_comfyui_without_an_input_folder_gets_an_empty_one(
    folders: OwnFolders, tmp_path: Path
) -> None:
    own = folders.prepare(Folders.of(tmp_path / "new", []), NONE)
    assert tree(own.input) == {}


def test_each_run_has_new_ones(folders: OwnFolders, comfyui: Path) -> None:
    first = folders.prepare(Folders.of(comfyui, []), NONE)
    (first.output / "half.png").write_text("half")
    second = folders.prepare(Folders.of(comfyui, []), NONE)
    assert tree(second.output) == {}
    assert not first.output.exists()


def test_jobs_have_a_place_that_survives_a_restart(folders: OwnFolders, comfyui: Path) -> None:
    own = folders.prepare(Folders.of(comfyui, []), NONE)
    (own.output / "made.png").write_text("made")
    (own.output / "made.png").rename(folders.scratch / "made.png")
    folders.prepare(Folders.of(comfyui, []), NONE)
    assert (folders.scratch / "made.png").read_text() == "made"


def test_nothing_is_left_at_the_end(comfyui: Path, temporary: Path) -> None:
    folders = OwnFolders()
    folders.prepare(Folders.of(comfyui, []), NONE)
    assert list(temporary.iterdir()) == [folders.scratch.parent]
    folders.close()
    folders.close()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("limit", ["MAX_COPIED_BYTES", "MAX_COPIED_FILES"])
def test_an_input_folder_that_is_large_is_used_itself(
    folders: OwnFolders, comfyui: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(own_folders, limit, 1)
    own = folders.prepare(Folders.of(comfyui, []), NONE)
    assert own.input == comfyui / "input"
    assert own.output != comfyui / "output"


def test_an_input_folder_that_is_a_link_is_used_itself(
    folders: OwnFolders, comfyui: Path, tmp_path: Path
) -> None:
    (comfyui / "input").rename(tmp_path / "volume")
    (comfyui / "input").symlink_to(tmp_path / "volume")
    assert folders.prepare(Folders.of(comfyui, []), NONE).input == comfyui / "input"


def test_folders_that_the_operator_names_are_used_themselves(
    folders: OwnFolders, comfyui: Path
) -> None:
    before = tree(comfyui)
    original = Folders.of(comfyui, [])
    assert folders.prepare(original, ALL) == original
    assert folders.prepare(original, ALL) == original  # after a restart as well
    assert tree(comfyui) == {**before, "temp": None}


@pytest.mark.parametrize(
    ("named", "used"),
    [
        (("all", "all/output", "all/temp"), ["all"]),
        (("all/input", "all", "temp"), ["all/input", "temp"]),
        (("input", "all", "all/temp"), ["input", "all"]),
        (("all", "all", "link"), ["all"]),
    ],
)
def test_of_folders_that_lie_in_each_other_one_is_used(
    folders: OwnFolders, tmp_path: Path, named: tuple[str, str, str], used: list[str]
) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "all")
    original = Folders(*(tmp_path / name for name in named))
    for _ in range(2):  # after a restart as well
        made = folders.prepare(original, ALL)
        ones = [made.input, made.output, made.temp]
        assert [folder for folder in ones if folder not in made.private] == [
            tmp_path / name for name in used
        ]


def test_two_workers_never_share_a_folder_that_the_operator_names(
    folders: OwnFolders, comfyui: Path, temporary: Path
) -> None:
    original = Folders.of(comfyui, [])
    with other_worker(comfyui, temporary, "named") as (other, theirs):
        assert theirs == original.input
        own = folders.prepare(original, ALL)
        assert {own.input, own.output, own.temp}.isdisjoint(
            {original.input, original.output, original.temp}
        )
        assert (own.input / "example.png").read_text() == "picture"
        other.kill()
        other.wait(20)
        assert folders.prepare(original, ALL) == original


def test_a_folder_that_the_operator_names_is_this_worker_s_from_run_to_run(
    folders: OwnFolders, comfyui: Path, temporary: Path
) -> None:
    original = Folders.of(comfyui, [])
    folders.prepare(original, ALL)
    begin(original.output)
    put_all_aside(original.output)
    note_all_aside(original.output)
    (original.output / "half.png").write_text("of a job")
    assert folders.prepare(original, ALL) == original
    assert (original.output / "half.png").exists(), "the job is in the middle of it still"
    with other_worker(comfyui, temporary, "named") as (_, theirs):
        assert theirs != original.input
    folders.close()
    with other_worker(comfyui, temporary, "named") as (_, theirs):
        assert theirs == original.input
    assert tree(original.output) == {"old.png": "old"}


def test_what_a_killed_worker_left_is_removed_and_what_lives_is_not(
    folders: OwnFolders, comfyui: Path, temporary: Path
) -> None:
    mine = folders.prepare(Folders.of(comfyui, []), NONE)
    with (
        other_worker(comfyui, temporary) as (dead, of_the_dead),
        other_worker(comfyui, temporary) as (living, of_the_living),
    ):
        dead.kill()
        dead.wait(20)
        assert (of_the_dead / "left.png").exists()
        folders.sweep()
        assert not of_the_dead.parents[1].exists()
        assert (of_the_living / "left.png").exists()
        assert mine.input.exists()
        living.communicate("", 20)
    assert {path.name for path in temporary.iterdir()} == {folders.scratch.parent.name}


def test_files_of_others_are_not_swept(folders: OwnFolders, temporary: Path) -> None:
    (temporary / "worker-comfyui-notes.txt").write_text("not a folder")
    (temporary / "worker-comfyui-main").mkdir()  # somebody has unpacked the project here
    (temporary / "worker-comfyui-main" / "README.md").write_text("mine")
    before = tree(temporary)
    folders.sweep()
    assert tree(temporary) == before
