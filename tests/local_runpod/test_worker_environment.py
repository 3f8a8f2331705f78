from __future__ import annotations

import shlex
from pathlib import Path

from local_runpod.workers.environment import describe_comfyui, worker_environment
from worker_comfyui.comfyui.process.command import Folders

ROOT = Path("/project")


def test_each_worker_gets_a_local_comfyui_with_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    environment = worker_environment(ROOT, {"COMFYUI_ARGS": "--verbose DEBUG"})(folder)
    flags = shlex.split(environment["COMFYUI_ARGS"])
    assert environment["COMFYUI_PATH"] == "/project/src/local_comfyui"
    assert flags == ["--base-directory", str(folder / "comfyui"), "--verbose", "DEBUG"]
    assert (folder / "comfyui").is_dir()
    assert environment["TMPDIR"] == str(folder)


def test_a_real_comfyui_is_respected(tmp_path: Path) -> None:
    for given in ({"COMFYUI_PATH": "/comfyui"}, {"COMFY_HOST": "127.0.0.1:8188"}):
        environment = worker_environment(ROOT, given)(tmp_path)
        assert {name: environment.get(name) for name in given} == given
        assert "COMFYUI_ARGS" not in environment
        assert next(iter(given.values())) in describe_comfyui(given)
    assert "local_comfyui" in describe_comfyui({})


def test_several_workers_share_no_files_of_a_real_comfyui(tmp_path: Path) -> None:
    given = {"COMFYUI_PATH": "/comfyui", "COMFYUI_ARGS": "--cpu"}
    make = worker_environment(ROOT, given, several=True)
    used: list[Path] = []
    for name in ("worker 1", "worker 2"):
        folder = tmp_path / name
        folder.mkdir()
        environment = make(folder)
        flags = shlex.split(environment["COMFYUI_ARGS"])
        assert environment["COMFYUI_PATH"] == "/comfyui"
        assert flags[-1] == "--cpu"
        folders = Folders.of(Path("/comfyui"), flags)
        assert folders.input.is_dir()
        assert folders.output.is_dir()
        used += [folders.input, folders.output, folders.temp]
    assert len(set(used)) == 6


def test_workers_do_not_inherit_what_would_change_them(tmp_path: Path) -> None:
    inherited = {"SERVE_API_LOCALLY": "true", "RUNPOD_API_KEY": "secret", "BUCKET_NAME": "b"}
    environment = worker_environment(ROOT, inherited)(tmp_path)
    assert "SERVE_API_LOCALLY" not in environment
    assert "RUNPOD_API_KEY" not in environment
    assert environment["BUCKET_NAME"] == "b"


def test_the_sdks_checks_of_runpods_machines_are_off_unless_asked_for(tmp_path: Path) -> None:
    off = worker_environment(ROOT, {"PATH": ""})(tmp_path)
    assert off["RUNPOD_SKIP_AUTO_SYSTEM_CHECKS"] == off["RUNPOD_SKIP_GPU_CHECK"] == "true"
    asked = {"RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "false", "COMFY_HOST": "h:1"}
    assert worker_environment(ROOT, asked)(tmp_path)["RUNPOD_SKIP_AUTO_SYSTEM_CHECKS"] == "false"


def test_proxies_are_never_asked_for_this_machine(tmp_path: Path) -> None:
    environment = worker_environment(ROOT, {"NO_PROXY": "corp", "COMFY_HOST": "h:1"})(tmp_path)
    assert environment["NO_PROXY"] == "corp,127.0.0.1,localhost,::1"
    assert environment["no_proxy"] == "127.0.0.1,localhost,::1"
