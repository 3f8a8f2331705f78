"""What a release and the weekly updates do, with repositories and programs of the test's own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from worker_comfyui import __version__

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """As much of the project as the scripts read and write."""
    folder = tmp_path / "project"
    for name in ("scripts", "src/comfyui", "src/models"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "src" / "worker_comfyui").mkdir()
    for name in ("src/worker_comfyui/__init__.py", "CHANGELOG.md", "Dockerfile"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def run(project: Path) -> Run:
    def run(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(project / "scripts" / script), *arguments],
            cwd=project,
            env={"PATH": os.environ["PATH"], "HOME": str(project)} | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_version_is_said_at_once() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "handler.py"), "--version"],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{__version__}\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def test_a_release_s_notes_are_its_section_of_the_changelog(run: Run, project: Path) -> None:
    changelog = "# Changelog\n\n## Unreleased\n\nNot yet.\n\n"
    changelog += f"## {__version__} (2026-11-25)\n\n- This.\n\n## 0.9.0\n\n- That.\n"
    (project / "CHANGELOG.md").write_text(changelog)
    result = run("release-notes", f"v{__version__}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "- This."


def test_a_release_without_its_section_or_its_version_is_refused(run: Run, project: Path) -> None:
    (project / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- This.\n")
    missing = run("release-notes", f"v{__version__}")
    assert missing.returncode == 1
    assert f'has no section "## {__version__}"' in missing.stderr
    other = run("release-notes", "v99.0.0")
    assert other.returncode == 1
    assert f"error: the tag is v99.0.0, but src/worker_comfyui/__init__.py says {__version__}" in (
        other.stderr
    )


def test_the_newest_comfyui_is_written_where_it_stands(
    run: Run, project: Path, tmp_path: Path
) -> None:
    upstream = tmp_path / "ComfyUI"
    upstream.mkdir()
    git(upstream, "init", "--quiet")
    for version in ("0.9.0", "0.40.0"):
        requirements = f"# {version}\ncomfyui-frontend-package==1.{version}\ntorch\n\nnumpy\n"
        (upstream / "requirements.txt").write_text(requirements)
        git(upstream, "add", ".")
        git(upstream, "commit", "--quiet", "--message", version)
        git(upstream, "tag", "--annotate", f"v{version}", "--message", version)
    git(upstream, "tag", "v0.41.0-rc1")
    lock = project / "scripts" / "lock"
    lock.write_text("#!/bin/sh\ntouch locked\n")
    lock.chmod(0o755)
    result = run("update-comfyui", COMFYUI_REPOSITORY=f"file://{upstream}")
    assert result.returncode == 0, result.stderr
    dockerfile = (project / "Dockerfile").read_text()
    assert "\nARG COMFYUI_VERSION=0.40.0\n" in dockerfile
    assert f"\nARG COMFYUI_COMMIT={git(upstream, 'rev-parse', 'HEAD')}\n" in dockerfile
    lines = (project / "src" / "comfyui" / "requirements.in").read_text().splitlines()
    assert lines[0].startswith("# What ComfyUI 0.40.0 requires")
    assert lines[2:] == ["comfyui-frontend-package==1.0.40.0", "torch", "numpy"]
    assert (project / "locked").exists()
    assert run("update-comfyui", "7.0.0", COMFYUI_REPOSITORY=f"file://{upstream}").returncode == 1


def test_a_proposal_is_the_patch_and_the_outcome(run: Run, project: Path, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gh").write_text(f'#!/bin/sh\nprintf "%s " "$@" >>{calls}\n')
    (programs / "gh").chmod(0o755)
    git(project, "init", "--quiet")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "--message", "1")
    remote = tmp_path / "remote.git"
    git(tmp_path, "init", "--quiet", "--bare", str(remote))
    address = f"url.file://{remote}.insteadOf"
    git(project, "config", address, "https://x-access-token:secret@github.com/me/x.git")
    (project / "update").mkdir()
    environ = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "GH_TOKEN": "secret",
        "GITHUB_REPOSITORY": "me/x",
    }
    (project / "update" / "changes.patch").write_text("")
    assert run("propose-update", "packages", **environ).stdout == "Nothing new.\n"
    (project / "Dockerfile").write_text("changed\n")
    patch = git(project, "diff") + "\n"
    git(project, "checkout", "--quiet", "Dockerfile")
    (project / "update" / "changes.patch").write_text(patch)
    (project / "update" / "outcome.md").write_text("- passed\n")
    result = run("propose-update", "packages", **environ)
    assert result.returncode == 0, result.stderr
    assert git(remote, "show", "update/packages:Dockerfile") == "changed"
    assert git(remote, "ls-tree", "--name-only", "update/packages", "update") == ""
    assert calls.read_text().startswith("pr create --head update/packages --title Newest packages")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"DOCKERHUB_TOKEN": ""}, "The secret DOCKERHUB_TOKEN is not set"),
        ({"DOCKERHUB_REPO": ""}, "The variable DOCKERHUB_REPO is not set"),
        ({"DOCKERHUB_REPO": "Me"}, "DOCKERHUB_REPO is 'Me'"),
        ({"DOCKERHUB_IMG": "a b"}, "DOCKERHUB_IMG is 'a b'"),
        ({"VERSION": "1 0"}, "The version is '1 0'"),
        ({"TARGET": "sd3"}, "the secret HUGGINGFACE_ACCESS_TOKEN is not set"),
        ({}, None),
        ({"TARGET": "sd3", "HUGGINGFACE_ACCESS_TOKEN": "x"}, None),
        ({"REGISTRY": "ghcr.io", "DOCKERHUB_TOKEN": "", "DOCKERHUB_REPO": ""}, None),
    ],
)
def test_what_a_build_needs_is_checked_before_it_begins(
    run: Run, tmp_path: Path, changed: dict[str, str], sentence: str | None
) -> None:
    output = tmp_path / "output"
    usual = {
        "REGISTRY": "docker.io",
        "TARGET": "sdxl",
        "VERSION": "1.0.0",
        "DOCKERHUB_USERNAME": "me",
        "DOCKERHUB_TOKEN": "x",
        "DOCKERHUB_REPO": "me",
        "DOCKERHUB_IMG": "worker",
        "GITHUB_REPOSITORY": "Me/worker",
        "GITHUB_OUTPUT": str(output),
    }
    result = run("check-build-settings", **usual | changed)
    if sentence:
        assert result.returncode == 1
        assert f"::error::{sentence}" in result.stdout or sentence in result.stdout
        return
    assert result.returncode == 0, result.stdout
    names = dict(line.split("=", 1) for line in output.read_text().splitlines())
    ghcr = changed.get("REGISTRY") == "ghcr.io"
    assert names["image"] == ("ghcr.io/me/worker" if ghcr else "docker.io/me/worker")
    assert names["subject"] == ("ghcr.io/me/worker" if ghcr else "index.docker.io/me/worker")
