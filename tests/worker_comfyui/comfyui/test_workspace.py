"""A job's files in ComfyUI's folders: they are its own while it has its turn."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.comfyui import ComfyUI
from worker_comfyui.comfyui.client import ComfyClient
from worker_comfyui.comfyui.outputs import Outputs
from worker_comfyui.comfyui.process.aside import ASIDE, LEFT, recover
from worker_comfyui.comfyui.process.command import Folders
from worker_comfyui.comfyui.workspace import LocalWorkspace, RemoteWorkspace, Taken, Workspace
from worker_comfyui.errors import ComfyUnavailable, DiskFull, TimedOut
from worker_comfyui.media.output_file import OutputFile
from worker_comfyui.stop import JobCancelled, Stop


def never() -> bool:
    return False


def write(path: Path, data: bytes = b"data") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def reported(name: str, node_id: str = "9") -> OutputFile:
    subfolder, _, filename = name.rpartition("/")
    return OutputFile(node_id, "images", filename, subfolder)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ASIDE not in path.parts
    }


def taken_contents(taken: Taken) -> dict[str, bytes]:
    return {file.name: file.copy.read_bytes() for file in taken.files}


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    folders = Folders(*(tmp_path / name for name in ("input", "output", "temp")))
    for folder in (folders.input, folders.output, folders.temp):
        folder.mkdir()
    return folders


@pytest.fixture
def sent(tmp_path: Path) -> Callable[[bytes], Path]:
    def make(data: bytes) -> Path:
        return write(tmp_path / "sent" / data.decode(), data)

    return make


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def take(workspace: Workspace, *files: OutputFile, previews: bool = False) -> Taken:
    outputs = Outputs(artifacts=tuple(f for f in files if f.folder_type == "output"))
    outputs = Outputs(outputs.artifacts, tuple(f for f in files if f.folder_type == "temp"))
    return workspace.take(outputs, Stop(never), previews=previews)


def test_input_files_are_there_for_the_job_and_gone_after_it(
    folders: Folders, scratch: Path, sent: Callable[[bytes], Path]
) -> None:
    write(folders.input / "own.png", b"of the image")
    workspace = LocalWorkspace(folders, scratch)
    workspace.stage({"photo.png": sent(b"one"), "deep/er/voice.wav": sent(b"two")})
    assert contents(folders.input) == {
        "own.png": b"of the image",
        "photo.png": b"one",
        "deep/er/voice.wav": b"two",
    }
    workspace.close()
    assert contents(folders.input) == {"own.png": b"of the image"}
    assert not (folders.input / "deep").exists()


@pytest.mark.parametrize("name", ["kept.png", "folder/kept.png", "x" * 251 + ".png"])
def test_an_input_file_that_was_there_before_comes_back(
    folders: Folders, scratch: Path, sent: Callable[[bytes], Path], name: str
) -> None:
    write(folders.input / name, b"of the image")
    workspace = LocalWorkspace(folders, scratch)
    workspace.stage({name: sent(b"of the job")})
    assert (folders.input / name).read_bytes() == b"of the job"
    workspace.close()
    assert contents(folders.input) == {name: b"of the image"}
    assert [p for p in folders.input.rglob("*") if p.is_dir() and not list(p.iterdir())] == []


def test_an_input_folder_that_cannot_be_listed_is_left_as_it_was(
    folders: Folders,
    scratch: Path,
    sent: Callable[[bytes], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(folders.input / "kept.png", b"of the image")
    listdir, scandir = os.listdir, os.scandir

    def refusing(list_folder: Callable[[Path], Any]) -> Callable[[Path], Any]:
        def refused(folder: Path) -> Any:
            if str(folder) == str(folders.input):
                raise PermissionError(errno.EACCES, "Permission denied", str(folder))
            return list_folder(folder)

        return refused

    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", refusing(listdir))
        patched.setattr(os, "scandir", refusing(scandir))
        workspace = LocalWorkspace(folders, scratch)
        workspace.stage({"kept.png": sent(b"of the job"), "new.png": sent(b"of the job too")})
        assert (folders.input / "kept.png").read_bytes() == b"of the job"
        workspace.close()
    assert contents(folders.input) == {"kept.png": b"of the image"}
    assert not (folders.input / ASIDE).exists()


def test_a_file_that_bars_the_way_to_a_folder_comes_back(
    folders: Folders, scratch: Path, sent: Callable[[bytes], Path]
) -> None:
    write(folders.input / "folder", b"a file")
    workspace = LocalWorkspace(folders, scratch)
    workspace.stage({"folder/photo.png": sent(b"x")})
    assert contents(folders.input)["folder/photo.png"] == b"x"
    workspace.close()
    assert contents(folders.input) == {"folder": b"a file"}


def test_nothing_is_written_through_a_link_in_the_input_folder(
    folders: Folders, scratch: Path, sent: Callable[[bytes], Path], tmp_path: Path
) -> None:
    elsewhere = write(tmp_path / "elsewhere" / "photo.png", b"precious").parent
    (folders.input / "link").symlink_to(elsewhere)
    workspace = LocalWorkspace(folders, scratch)
    workspace.stage({"link/photo.png": sent(b"x")})
    workspace.close()
    assert contents(elsewhere) == {"photo.png": b"precious"}
    assert (folders.input / "link").readlink() == elsewhere


def test_what_a_node_writes_into_the_input_folder_goes_as_well(
    folders: Folders, scratch: Path
) -> None:
    write(folders.input / "kept" / "own.png")
    workspace = LocalWorkspace(folders, scratch)
    write(folders.input / "clipspace" / "mask.png")
    write(folders.input / "kept" / "new.png")
    workspace.close()
    assert list(contents(folders.input)) == ["kept/own.png"]
    assert not (folders.input / "clipspace").exists()


def test_staging_twice_and_closing_twice_touch_nothing_more(
    folders: Folders, scratch: Path, sent: Callable[[bytes], Path]
) -> None:
    workspace = LocalWorkspace(folders, scratch)
    workspace.stage({"once.png": sent(b"x")})
    workspace.close()
    write(folders.input / "other.png", b"later")
    workspace = LocalWorkspace(folders, scratch)
    workspace.close()
    assert contents(folders.input) == {"other.png": b"later"}


def test_reported_files_come_with_their_node_and_the_others_without(
    folders: Folders, scratch: Path
) -> None:
    workspace = LocalWorkspace(folders, scratch)
    write(folders.output / "f" / "here.png", b"reported")
    write(folders.output / "notes.txt", b"unreported")
    write(folders.output / ("y" * 250), b"odd")
    taken = take(workspace, reported("f/here.png"), reported("f/gone.png"))
    assert [(file.node_id, file.name, file.kind) for file in taken.files] == [
        ("9", "f/here.png", "images"),
        (None, "notes.txt", "files"),
        (None, "y" * 250, "files"),
    ]
    assert taken_contents(taken)["f/here.png"] == b"reported"
    assert [file.name for file in taken.missing] == ["f/gone.png"]
    assert contents(folders.output) == {}
    assert all(file.copy.parent == scratch for file in taken.files)


def test_a_sequence_that_is_reported_by_a_pattern_comes_with_its_node(
    folders: Folders, scratch: Path
) -> None:
    workspace = LocalWorkspace(folders, scratch)
    for number in (1, 2, 10):
        write(folders.output / f"walk_00001_{number:03}.png")
    write(folders.output / "walk_00001_x.png")
    taken = take(workspace, reported("walk_00001_%03d.png"))
    assert [(file.node_id, file.name) for file in taken.files] == [
        ("9", "walk_00001_001.png"),
        ("9", "walk_00001_002.png"),
        ("9", "walk_00001_010.png"),
        (None, "walk_00001_x.png"),
    ]
    assert taken.missing == []


@pytest.mark.parametrize("previews", [False, True])
def test_the_picture_beside_a_video_comes_with_the_previews_only(
    folders: Folders, scratch: Path, previews: bool
) -> None:
    workspace = LocalWorkspace(folders, scratch)
    write(folders.output / "walk.mp4")
    write(folders.output / "walk.png")
    shown = Outputs((reported("walk.mp4"),), (reported("walk.png"),))
    taken = workspace.take(shown, Stop(never), previews=previews)
    assert [file.name for file in taken.files] == ["walk.mp4"]
    assert [file.name for file in taken.previews] == (["walk.png"] if previews else [])
    workspace.close()
    assert contents(folders.output) == {}


def test_what_lay_in_the_output_folder_is_no_result_and_stays(
    folders: Folders, scratch: Path
) -> None:
    write(folders.output / "ComfyUI_00007_.png", b"before")
    write(folders.output / "sub" / "old.png", b"before")
    (folders.output / "link").symlink_to(folders.output / "sub")
    workspace = LocalWorkspace(folders, scratch)
    assert [p.name for p in folders.output.iterdir()] == [ASIDE]
    write(folders.output / "sub" / "new.png", b"of the job")
    taken = take(workspace)
    assert taken_contents(taken) == {"sub/new.png": b"of the job"}
    workspace.close()
    assert contents(folders.output)["ComfyUI_00007_.png"] == b"before"
    assert contents(folders.output)["sub/old.png"] == b"before"
    assert (folders.output / "link").is_symlink()
    assert not (folders.output / "sub" / "new.png").exists()


def test_a_folder_that_ends_with_its_worker_needs_no_sign_of_a_job(
    folders: Folders, scratch: Path, sent: Callable[[bytes], Path]
) -> None:
    all_three = frozenset((folders.input, folders.output, folders.temp))
    private = replace(folders, private=all_three)
    workspace = LocalWorkspace(private, scratch)
    workspace.stage({"new.png": sent(b"mine")})
    assert not any((folder / ASIDE).exists() for folder in all_three)
    workspace.close()
    assert contents(folders.input) == {}

    write(folders.input / "of_the_image.png", b"before")
    write(folders.output / "left.png", b"before")
    workspace = LocalWorkspace(private, scratch)
    workspace.stage({"of_the_image.png": sent(b"mine")})
    assert contents(folders.input) == {"of_the_image.png": b"mine"}
    assert contents(folders.output) == {}
    workspace.close()
    assert contents(folders.input) == {"of_the_image.png": b"before"}
    assert contents(folders.output) == {"left.png": b"before"}


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.EACCES, errno.EBUSY])
def test_what_another_user_has_or_mounted_is_no_result_and_stays(
    folders: Folders, scratch: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    write(folders.output / "of_the_image", b"before")
    write(folders.output / "mine.png", b"before")
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        """Do as where each may remove his own files only, or where a disk is mounted."""
        if self.name == "of_the_image":
            raise OSError(refusal, os.strerror(refusal), str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    workspace = LocalWorkspace(folders, scratch)
    assert contents(folders.output) == {"of_the_image": b"before"}
    write(folders.output / "new.png", b"of the job")
    assert taken_contents(take(workspace)) == {"new.png": b"of the job"}
    workspace.close()
    assert contents(folders.output) == {"of_the_image": b"before", "mine.png": b"before"}


def test_a_folder_that_a_file_system_cannot_rename_is_put_aside_all_the_same(
    folders: Folders, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folders.output / "examples" / "old.png", b"before")
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        """Do as overlayfs does with a folder of an image's layer."""
        if self == folders.output / "examples":
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    workspace = LocalWorkspace(folders, scratch)
    write(folders.output / "examples" / "new.png", b"of the job")
    assert taken_contents(take(workspace)) == {"examples/new.png": b"of the job"}
    workspace.close()
    assert contents(folders.output) == {"examples/old.png": b"before"}


@pytest.mark.parametrize("moment", ["half a copy", "the temp folder"])
def test_where_no_room_can_be_made_for_a_job_all_is_as_it_was(
    folders: Folders, scratch: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    write(folders.output / "a" / "old.png", b"before")
    write(folders.output / "b.png", b"before")
    write(folders.temp / "c.png", b"before")
    full = OSError(errno.ENOSPC, "No space left on device")
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if self == folders.output / "a" and moment == "half a copy":
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(self))
        if self == folders.temp / "c.png" and moment == "the temp folder":
            raise full
        return rename(self, target)

    def half(_: Path, to: Path, **_options: object) -> None:
        write(to / "old.png", b"bef")
        raise full

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refused)
        patched.setattr(shutil, "copytree", half)
        with pytest.raises(DiskFull):
            LocalWorkspace(folders, scratch)
    assert contents(folders.output) == {"a/old.png": b"before", "b.png": b"before"}
    assert contents(folders.temp) == {"c.png": b"before"}
    assert not any((folder / ASIDE).exists() for folder in (folders.output, folders.temp))


def test_a_worker_that_was_killed_leaves_nothing_and_takes_nothing(
    folders: Folders, scratch: Path, sent: Callable[[bytes], Path]
) -> None:
    write(folders.input / "folder" / "own.png", b"of the image")
    write(folders.output / "old.png", b"old")
    write(folders.input / "other.png", b"other")
    files = {"folder/own.png": sent(b"of the job"), "new.png": sent(b"of the job too")}
    LocalWorkspace(folders, scratch).stage(files)
    write(folders.output / LEFT / "done.png", b"of a worker that was killed in `recover`")
    for number in range(20):  # in whichever order they are found
        write(folders.output / f"half-{number}" / "done.png", b"of the job")
    recover(folders.input, is_input=True)
    recover(folders.output, is_input=False)
    assert contents(folders.input) == {
        "folder/own.png": b"of the image",
        "other.png": b"other",
    }
    assert contents(folders.output) == {"old.png": b"old"}


class Killed(BaseException):
    """The worker ends at once."""


@pytest.mark.parametrize("moves", range(8))
def test_a_worker_that_was_killed_while_it_moved_the_operator_s_files_loses_none(
    folders: Folders,
    scratch: Path,
    sent: Callable[[bytes], Path],
    monkeypatch: pytest.MonkeyPatch,
    moves: int,
) -> None:
    for name in ("a.png", "b.png", "sub/c.png"):
        write(folders.output / name, b"before")
    write(folders.input / "kept.png", b"before")
    before = contents(folders.output), contents(folders.input)
    left = [moves]
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return rename(self, target)

    def job() -> None:
        workspace = LocalWorkspace(folders, scratch)
        workspace.stage({"kept.png": sent(b"of the job")})
        write(folders.output / "new.png", b"of the job")
        workspace.close()

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(Killed):
            job()
    recover(folders.input, is_input=True)
    recover(folders.output, is_input=False)
    assert (contents(folders.output), contents(folders.input)) == before


def test_what_is_mounted_in_the_output_folder_outlives_a_worker_that_was_killed(
    folders: Folders, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folders.output / "disk" / "old.png", b"before")
    write(folders.output / "old.png", b"old")
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if self.name == "disk":
            raise OSError(errno.EBUSY, "Device or resource busy", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    LocalWorkspace(folders, scratch)
    write(folders.output / "half" / "done.png", b"of the job")
    write(folders.output / "done.png", b"of the job")
    (folders.output / "link").symlink_to(folders.output / "disk")
    recover(folders.output, is_input=False)
    assert contents(folders.output) == {"disk/old.png": b"before", "old.png": b"old"}
    assert {path.name for path in folders.output.iterdir()} == {"disk", "old.png"}


def test_only_regular_files_are_results(folders: Folders, scratch: Path, tmp_path: Path) -> None:
    precious = write(tmp_path / "elsewhere" / "precious.png", b"precious")
    workspace = LocalWorkspace(folders, scratch)
    (folders.output / "link.png").symlink_to(precious)
    (folders.output / "folder").symlink_to(precious.parent)
    os.mkfifo(folders.output / "pipe.png")
    write(folders.output / ".hidden")
    taken = take(workspace, reported("link.png"), reported("folder/precious.png"))
    assert taken.files == []
    assert [file.name for file in taken.missing] == ["link.png", "folder/precious.png"]
    workspace.close()
    assert precious.read_bytes() == b"precious"
    assert list(folders.output.iterdir()) == []


def test_previews_are_taken_on_demand_and_removed_in_any_case(
    folders: Folders, scratch: Path
) -> None:
    preview = OutputFile("3", "images", "shown.png", folder_type="temp")
    for wanted in (True, False):
        workspace = LocalWorkspace(folders, scratch)
        write(folders.temp / "shown.png", b"shown")
        write(folders.temp / "scratch.bin")
        taken = take(workspace, preview, previews=wanted)
        assert [file.copy.read_bytes() for file in taken.previews] == [b"shown"] * wanted
        workspace.close()
        assert contents(folders.temp) == {}


def test_taking_stops_when_the_job_is_cancelled(folders: Folders, scratch: Path) -> None:
    workspace = LocalWorkspace(folders, scratch)
    write(folders.output / "one.png")
    with pytest.raises(JobCancelled):
        workspace.take(Outputs(), Stop(lambda: True))
    workspace.close()
    assert contents(folders.output) == {}


def test_folders_that_are_not_there_are_empty(tmp_path: Path, scratch: Path) -> None:
    missing = Folders(*(tmp_path / name for name in ("a", "b", "c")))
    workspace = LocalWorkspace(missing, scratch)
    assert take(workspace, reported("x.png")).files == []
    workspace.close()


def test_files_of_a_comfyui_elsewhere_are_downloaded_and_left_alone(
    client: ComfyClient, comfyui: ComfyUI, scratch: Path, sent: Callable[[bytes], Path]
) -> None:
    workspace = RemoteWorkspace(client, scratch)
    folders = Folders.of(comfyui.base, [])
    write(folders.output / "far.png", b"far")
    workspace.stage({"far-input.png": sent(b"x")})
    taken = take(workspace, reported("far.png"), reported("gone.png"))
    workspace.close()
    assert taken_contents(taken) == {"far.png": b"far"}
    assert [file.name for file in taken.missing] == ["gone.png"]
    assert (folders.output / "far.png").exists()
    assert (folders.input / "far-input.png").read_bytes() == b"x"
    (folders.output / "far.png").unlink()
    (folders.input / "far-input.png").unlink()


def test_a_file_that_a_comfyui_elsewhere_does_not_take_is_an_error(
    client: ComfyClient, comfyui: ComfyUI, scratch: Path, sent: Callable[[bytes], Path]
) -> None:
    workspace = RemoteWorkspace(client, scratch)
    with pytest.raises(ComfyUnavailable):
        workspace.stage({"../bad.png": sent(b"x")})
    assert not (comfyui.base / "bad.png").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_its_own_error(client: ComfyClient, comfyui: ComfyUI, scratch: Path) -> None:
    write(Folders.of(comfyui.base, []).output / "large.png")
    (scratch / "1.png").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="no space is left"):
        take(RemoteWorkspace(client, scratch), reported("large.png"))


@contextmanager
def trickling() -> Iterator[str]:
    """Serve every file one byte at a time, without end."""
    over = threading.Event()

    class Trickle(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            with suppress(OSError):
                while not over.wait(0.05):
                    self.wfile.write(b"x")
                    self.wfile.flush()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Trickle)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_comfyui_that_sends_a_file_byte_by_byte_gets_no_more_time(scratch: Path) -> None:
    stop = Stop(never)
    stop.limit(0.5)
    with trickling() as address, ComfyClient(address, timeout_s=60) as client:
        with pytest.raises(TimedOut):
            RemoteWorkspace(client, scratch).take(Outputs((reported("a.png"),)), stop)
        assert stop.left() > -10
