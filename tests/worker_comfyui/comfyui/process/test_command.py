from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.comfyui import LOCAL_COMFYUI
from worker_comfyui.comfyui.process import bootstrap
from worker_comfyui.comfyui.process.command import (
    FolderFlags,
    Folders,
    command,
    given_port,
    host,
    interpreter,
    models_folder,
    problems,
)
from worker_comfyui.config import Settings
from worker_comfyui.errors import ConfigurationError

ROOT = Path("/comfyui")
FOLDERS = Folders(Path("/own/input"), Path("/own/output"), Path("/own/temp"))


def after(flag: str, line: list[str]) -> str:
    assert line.count(flag) == 1
    return line[line.index(flag) + 1]


def line_of(settings: Settings, *, port: int = 1, **options: Any) -> list[str]:
    return command(settings, port=port, folders=FOLDERS, **options)


def with_args(text: str) -> Settings:
    return Settings.from_env({"COMFYUI_ARGS": text})


def test_comfyui_is_started_on_loopback_with_the_settings() -> None:
    line = line_of(Settings(comfy_log_level="WARNING"), port=4321)
    assert line[:3] == [sys.executable, bootstrap.__file__, "/comfyui/main.py"]
    assert after("--listen", line) == "127.0.0.1"
    assert after("--port", line) == "4321"
    assert after("--verbose", line) == "WARNING"
    assert "--disable-auto-launch" in line
    assert "--disable-metadata" in line
    assert "--max-upload-size" not in line


def test_metadata_is_embedded_where_it_is_asked_for() -> None:
    assert "--disable-metadata" not in line_of(Settings(embed_metadata=True))


def test_comfyui_takes_uploads_as_large_as_the_worker_does() -> None:
    megabytes = int(after("--max-upload-size", line_of(Settings(max_input_mb=500.5))))
    assert megabytes * 1024 * 1024 > 500.5 * 1_000_000 + 10_000


def test_the_operator_s_flags_come_after_all_others_but_the_folders() -> None:
    line = line_of(with_args("--reserve-vram 2 --output-directory /theirs"))
    assert line[-10:] == [
        *("--reserve-vram", "2", "--output-directory", "/theirs"),
        *("--input-directory", "/own/input"),
        *("--output-directory", "/own/output"),
        *("--temp-directory", "/own"),  # ComfyUI adds `temp`
    ]
    assert Folders.of(ROOT, line) == FOLDERS


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("", (False, False, False)),
        ("--base-directory /b", (False, False, False)),
        ("--output-directory=/o --cpu", (False, True, False)),
        ("--input-directory i --temp-directory /t", (True, False, True)),
    ],
)
def test_folders_that_the_operator_names_are_known(
    flags: str, named: tuple[bool, bool, bool]
) -> None:
    assert FolderFlags.of(flags.split()) == FolderFlags(*named)


@pytest.mark.parametrize("args", ["--port 8188 --listen 0.0.0.0", "--port=8188 --listen=0.0.0.0"])
def test_an_address_of_the_operator_s_replaces_the_worker_s(args: str) -> None:
    line = line_of(with_args(args), port=4321)
    assert "4321" not in line
    assert "127.0.0.1" not in line
    assert given_port(with_args(args)) == 8188


def test_without_a_port_in_the_arguments_there_is_none() -> None:
    assert given_port(with_args("--listen --reserve-vram 2")) is None


def test_paths_are_absolute_since_comfyui_starts_in_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(comfyui_path=Path("ComfyUI"), comfyui_python="venv/bin/python")
    line = line_of(settings)
    assert line[0] == str(tmp_path / "venv/bin/python")
    assert line[2] == str(tmp_path / "ComfyUI/main.py")


@pytest.mark.parametrize(
    "place",
    [
        "venv/bin/python",
        ".venv/bin/python",
        "python_embeded/python",
        "../python_embeded/python.exe",
    ],
)
def test_the_python_beside_comfyui_is_its_own(tmp_path: Path, place: str) -> None:
    root = tmp_path / "ComfyUI"
    python = root / place
    root.mkdir()
    python.parent.mkdir(parents=True)
    python.touch()
    settings = Settings(comfyui_path=root)
    assert Path(interpreter(settings)).resolve() == python.resolve()
    assert interpreter(Settings(comfyui_path=root, comfyui_python="/mine")) == "/mine"


def test_without_one_it_is_the_worker_s(tmp_path: Path) -> None:
    assert interpreter(Settings(comfyui_path=tmp_path)) == sys.executable


def test_a_plain_name_of_an_interpreter_is_looked_up_as_in_a_shell() -> None:
    assert line_of(Settings(comfyui_python="python3.12"))[0] == "python3.12"


@pytest.mark.parametrize(
    ("flags", "folders"),
    [
        ("", ("/comfyui/input", "/comfyui/output", "/comfyui/temp")),
        ("--base-directory /b", ("/b/input", "/b/output", "/b/temp")),
        ("--base-directory=/b", ("/b/input", "/b/output", "/b/temp")),
        ("--base-directory /b --output-directory /o", ("/b/input", "/o", "/b/temp")),
        ("--input-directory /i --temp-directory /t", ("/i", "/comfyui/output", "/t/temp")),
        # Relative ones count from ComfyUI's folder, in which it is started.
        ("--output-directory o", ("/comfyui/input", "/comfyui/o", "/comfyui/temp")),
        ("--base-directory b", ("/comfyui/b/input", "/comfyui/b/output", "/comfyui/b/temp")),
        ("--input-directory a --input-directory /z", ("/z", "/comfyui/output", "/comfyui/temp")),
        (
            "--base-directory '/with space'",
            ("/with space/input", "/with space/output", "/with space/temp"),
        ),
    ],
)
def test_the_folders_are_those_that_comfyui_derives(
    flags: str, folders: tuple[str, str, str]
) -> None:
    assert Folders.of(ROOT, with_args(flags).comfyui_args) == Folders(*map(Path, folders))


def test_the_folders_of_a_relative_comfyui_are_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Folders.of(Path("ComfyUI"), []).output == tmp_path / "ComfyUI" / "output"


@pytest.mark.parametrize(
    "args", ["--port many", "--port", "--output-directory", "--base-directory --port 1"]
)
def test_a_flag_with_a_wrong_value_is_an_error_that_names_it_and_ends_no_thread(args: str) -> None:
    settings = with_args(args)
    with pytest.raises(ConfigurationError, match="COMFYUI_ARGS: argument --"):
        (Folders.of(ROOT, settings.comfyui_args), given_port(settings))


def test_a_real_command_line_parser_takes_the_command(tmp_path: Path) -> None:
    settings = Settings(comfyui_path=LOCAL_COMFYUI, max_input_mb=200)
    line = [*command(settings, port=1, folders=Folders.of(tmp_path, [])), "--quick-test-for-ci"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_extra_model_paths_go_beside_those_of_the_operator() -> None:
    settings = with_args("--extra-model-paths-config /mine.yaml --cpu")
    line = line_of(settings, extra_model_paths=Path("/extra/paths.yaml"))
    flag = "--extra-model-paths-config"
    given = [line[place + 1] for place, word in enumerate(line) if word == flag]
    assert given == ["/extra/paths.yaml", "/mine.yaml"]
    assert line[line.index("/extra/paths.yaml") + 1].startswith("--")
    assert flag not in line_of(Settings())


@pytest.mark.parametrize(
    ("flags", "folder"),
    [
        ("", "/comfyui/models"),
        ("--cpu --base-directory /data", "/data/models"),
        ("--base-directory data", "/comfyui/data/models"),
        ("--base-directory /data --models-directory /models", "/models"),
    ],
)
def test_the_models_folder_is_the_one_that_comfyui_derives(flags: str, folder: str) -> None:
    assert models_folder(ROOT, flags.split()) == Path(folder)


@pytest.mark.parametrize(
    ("flags", "address"),
    [
        ("", "127.0.0.1"),
        ("--listen", "127.0.0.1"),
        ("--listen 0.0.0.0", "127.0.0.1"),
        ("--listen 10.0.0.7,127.0.0.1", "127.0.0.1"),
        ("--listen 10.0.0.7", "10.0.0.7"),
        ("--listen=::", "[::1]"),
        ("--listen ::1 --cpu", "[::1]"),
    ],
)
def test_comfyui_is_reached_where_it_listens(flags: str, address: str) -> None:
    assert host(with_args(flags)) == address


@pytest.fixture
def comfyui(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "main.py").touch()
    return {"COMFYUI_PATH": str(tmp_path)}


def problems_of(comfyui: dict[str, str], arguments: str) -> list[str]:
    return problems(Settings.from_env({**comfyui, "COMFYUI_ARGS": arguments}))


def test_every_problem_of_the_arguments_is_listed(comfyui: dict[str, str]) -> None:
    found = problems_of(comfyui, "--port many --models-directory --output-directory")
    assert len(found) == 3
    for flag in ("--port", "--models-directory", "--output-directory"):
        assert any(flag in problem for problem in found)
    assert problems_of(comfyui, "--port 8188 --listen --fast") == []


def test_encryption_that_the_worker_does_not_speak_is_a_problem(comfyui: dict[str, str]) -> None:
    (problem,) = problems_of(comfyui, "--tls-keyfile key.pem --tls-certfile cert.pem")
    assert "plain HTTP" in problem
