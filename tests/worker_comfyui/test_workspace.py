"""A job's files in the folders of a running ComfyUI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

from tests.support.comfyui import ComfyUI, running_comfyui
from worker_comfyui.comfyui.client import ComfyClient
from worker_comfyui.comfyui.command import Folders
from worker_comfyui.comfyui.outputs import Outputs
from worker_comfyui.errors import ComfyUnavailable, DiskFull
from worker_comfyui.job import FetchedInput
from worker_comfyui.media.output_file import OutputFile
from worker_comfyui.stop import JobCancelled
from worker_comfyui.workspace import Workspace


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    with running_comfyui(tmp_path_factory.mktemp("comfyui")) as server:
        yield server


@pytest.fixture
def client(comfyui: ComfyUI) -> Iterator[ComfyClient]:
    with ComfyClient(comfyui.address) as client:
        yield client


@pytest.fixture
def folders(comfyui: ComfyUI) -> Folders:
    folders = Folders.of(comfyui.base, [])
    folders.temp.mkdir(exist_ok=True)
    return folders


@pytest.fixture
def workspace(folders: Folders, tmp_path: Path) -> Workspace:
    return Workspace(folders, f"job-{tmp_path.name}", tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def write(path: Path, data: bytes = b"data") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def artifact(path: str, folder_type: Literal["output", "temp"] = "output") -> OutputFile:
    subfolder, _, filename = path.rpartition("/")
    return OutputFile("9", "images", filename, subfolder, folder_type)


Sent = Callable[..., list[FetchedInput]]


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    """Make the fetched files of a request, of pairs of name and content."""

    def make(*files: tuple[str, bytes]) -> list[FetchedInput]:
        made = []
        for name, data in files:
            path = write(tmp_path / f"sent-{name.rpartition('/')[2][:50]}", data)
            made.append(FetchedInput(name, path, "images", ""))
        return made

    return make


def never() -> bool:
    return False


def test_input_files_are_there_for_the_job_and_gone_after_it(
    sent: Sent, client: ComfyClient, folders: Folders, workspace: Workspace
) -> None:
    before = contents(folders.input)
    workspace.stage(client, sent(("photo.png", b"one"), ("deep/er/voice.wav", b"two")))
    assert contents(folders.input) == {
        **before,
        "photo.png": b"one",
        "deep/er/voice.wav": b"two",
    }
    workspace.unstage()
    assert contents(folders.input) == before
    assert not (folders.input / "deep").exists()


@pytest.mark.parametrize("name", ["kept.png", "folder/kept.png", "x" * 251 + ".png"])
def test_a_file_that_was_there_before_comes_back(
    sent: Sent, client: ComfyClient, folders: Folders, workspace: Workspace, name: str
) -> None:
    path = write(folders.input / name, b"of the image")
    try:
        workspace.stage(client, sent((name, b"of the job")))
        assert path.read_bytes() == b"of the job"
        workspace.unstage()
        assert path.read_bytes() == b"of the image"
        assert list(path.parent.iterdir()).count(path) == 1
        assert not list(path.parent.glob(".*"))
    finally:
        path.unlink()


def test_staging_again_replaces_the_job_s_file_and_still_gives_back_the_other(
    sent: Sent, client: ComfyClient, folders: Folders, workspace: Workspace
) -> None:
    path = write(folders.input / "again.png", b"of the image")
    try:
        workspace.stage(client, sent(("again.png", b"first")))
        workspace.stage(client, sent(("again.png", b"second")))
        assert path.read_bytes() == b"second"
        workspace.unstage()
        assert path.read_bytes() == b"of the image"
    finally:
        path.unlink()


def test_unstaging_twice_touches_nothing_more(
    sent: Sent, client: ComfyClient, folders: Folders, workspace: Workspace
) -> None:
    workspace.stage(client, sent(("once.png", b"x")))
    workspace.unstage()
    path = write(folders.input / "once.png", b"of the next job")
    workspace.unstage()
    assert path.read_bytes() == b"of the next job"
    path.unlink()


def test_a_file_that_comfyui_does_not_take_is_an_error_and_what_was_staged_goes(
    sent: Sent, client: ComfyClient, folders: Folders, workspace: Workspace
) -> None:
    before = contents(folders.input)
    with pytest.raises(ComfyUnavailable):
        workspace.stage(client, sent(("good.png", b"x"), ("../bad.png", b"x")))
    workspace.unstage()
    assert contents(folders.input) == before
    assert not (folders.input.parent / "bad.png").exists()


def test_outputs_are_fetched_and_missing_ones_are_told(
    client: ComfyClient, folders: Folders, workspace: Workspace, tmp_path: Path
) -> None:
    here, gone = artifact("f/here.png"), artifact("f/gone.png")
    odd = artifact("f/x." + "y" * 250)
    write(folders.output / here.name, b"picture")
    write(folders.output / odd.name, b"odd")
    fetched, missing = workspace.fetch(client, [here, gone, odd], never)
    assert [(a.name, a.copy.read_bytes()) for a in fetched] == [
        (here.name, b"picture"),
        (odd.name, b"odd"),
    ]
    assert all(a.copy.parent == tmp_path for a in fetched)
    assert fetched[0].copy.suffix == ".png"
    assert missing == [gone]


def test_equal_names_of_two_folders_do_not_meet(
    client: ComfyClient, folders: Folders, workspace: Workspace
) -> None:
    both = [artifact("one/same.png"), artifact("two/same.png")]
    for each in both:
        write(folders.output / each.name, each.subfolder.encode())
    fetched, _ = workspace.fetch(client, both, never)
    assert [a.copy.read_bytes() for a in fetched] == [b"one", b"two"]


def test_fetching_stops_when_the_job_is_cancelled(
    client: ComfyClient, folders: Folders, workspace: Workspace, tmp_path: Path
) -> None:
    one = artifact("cancelled.png")
    write(folders.output / one.name)
    with pytest.raises(JobCancelled):
        workspace.fetch(client, [one], lambda: True)
    assert list(tmp_path.iterdir()) == []


def test_the_job_s_outputs_are_removed_wherever_they_were_reported(
    folders: Folders, workspace: Workspace
) -> None:
    write(folders.output / workspace.name / "sub" / "a.png")
    write(folders.temp / workspace.name / "b.png")
    outside = write(folders.output / "elsewhere" / "c.png")
    preview = write(folders.temp / "d.png")
    stays = write(folders.output / "stays.png")
    workspace.remove_outputs(
        Outputs(artifacts=(artifact("elsewhere/c.png"),), temporary=(artifact("d.png", "temp"),))
    )
    assert not (folders.output / workspace.name).exists()
    assert not (folders.temp / workspace.name).exists()
    assert not outside.parent.exists()
    assert not preview.exists()
    assert stays.exists()
    assert folders.output.is_dir()
    assert folders.temp.is_dir()
    stays.unlink()


def test_without_a_report_the_job_s_own_folder_is_removed(
    folders: Folders, workspace: Workspace
) -> None:
    write(folders.output / workspace.name / "half.png")
    workspace.remove_outputs(None)
    assert not (folders.output / workspace.name).exists()


def test_nothing_is_removed_through_a_link(
    folders: Folders, workspace: Workspace, tmp_path: Path
) -> None:
    precious = write(tmp_path / "elsewhere" / "precious.png")
    link = folders.output / f"link-{workspace.name}"
    link.symlink_to(precious.parent)
    workspace.remove_outputs(Outputs(artifacts=(artifact(f"{link.name}/precious.png"),)))
    assert precious.exists()
    link.unlink()


def test_a_link_in_the_job_s_folder_is_removed_and_not_what_it_points_to(
    folders: Folders, workspace: Workspace, tmp_path: Path
) -> None:
    precious = write(tmp_path / "elsewhere" / "precious.png")
    (folders.output / workspace.name).mkdir()
    (folders.output / workspace.name / "link").symlink_to(precious.parent)
    workspace.remove_outputs(None)
    assert precious.exists()
    assert not (folders.output / workspace.name).exists()


def test_files_of_a_comfyui_elsewhere_are_fetched_and_left_alone(
    sent: Sent, client: ComfyClient, folders: Folders, tmp_path: Path
) -> None:
    workspace = Workspace(None, "job-far", tmp_path)
    far = artifact("far.png")
    write(folders.output / far.name)
    workspace.stage(client, sent(("far-input.png", b"x")))
    fetched, _ = workspace.fetch(client, [far], never)
    workspace.unstage()
    workspace.remove_outputs(Outputs(artifacts=(far,)))
    assert len(fetched) == 1
    assert (folders.output / far.name).exists()
    assert (folders.input / "far-input.png").exists()
    (folders.output / far.name).unlink()
    (folders.input / "far-input.png").unlink()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_its_own_error(
    client: ComfyClient, folders: Folders, workspace: Workspace, tmp_path: Path
) -> None:
    one = artifact("large.png")
    write(folders.output / one.name)
    (tmp_path / "0.png").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="no space is left"):
        workspace.fetch(client, [one], never)
