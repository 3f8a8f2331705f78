"""scripts/build-on-pod.sh, with a docker that writes down how it is called."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PASSWORD = "dckr_made_up_for_this_test"
IMAGE = "me/worker-comfyui:1.0-base"
TOKEN = "hf_made_up_for_this_test"
DOCKER = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$CALLS"
printf '%s\\n' "$DOCKER_CONFIG" >>"$CALLS.config"
case "$*" in
  "info --format "*) echo / ;;
  info) [[ $FAIL != info ]] ;;
  "buildx version") [[ $FAIL != buildx ]] ;;
  login*) cat >"$CALLS.stdin"; echo secret >"$DOCKER_CONFIG/config.json"; [[ $FAIL != login ]] ;;
  "buildx inspect "*) exit 1 ;;
  "buildx bake "*) printenv HUGGINGFACE_ACCESS_TOKEN >"$CALLS.token"; [[ $FAIL != bake ]] ;;
  "buildx imagetools "*) echo '{"layers":[{"size": 1500000000},{"size":2000000000}]}' ;;
esac
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    return tmp_path / "calls"


@pytest.fixture
def run(tmp_path: Path, calls: Path) -> Run:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "docker").write_text(DOCKER)
    (programs / "docker").chmod(0o755)

    def run(**environ: str) -> subprocess.CompletedProcess[str]:
        usual = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "TMPDIR": str(tmp_path),
            "CALLS": str(calls),
            "FAIL": "",
            "DOCKERHUB_USERNAME": "me",
            "DOCKERHUB_TOKEN": PASSWORD,
            "IMAGE_TAG": IMAGE,
            "MODEL_TYPE": "base",
        }
        return subprocess.run(
            [str(ROOT / "scripts" / "build-on-pod.sh")],
            env=usual | environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def free_gigabytes() -> int:
    found = os.statvfs("/")
    return found.f_bavail * found.f_frsize // 10**9


needs_space = pytest.mark.skipif(free_gigabytes() < 35, reason="the check of the disk fails here")


@needs_space
def test_it_logs_in_builds_pushes_and_says_the_size(run: Run, calls: Path) -> None:
    result = run()
    assert result.returncode == 0, result.stderr
    assert calls.read_text().splitlines() == [
        "info",
        "buildx version",
        "info --format {{.DockerRootDir}}",
        "login --username me --password-stdin",
        "buildx inspect worker-comfyui",
        "buildx create --name worker-comfyui --driver docker-container",
        f"buildx bake --builder worker-comfyui --push --set base.tags={IMAGE} base",
        f"buildx imagetools inspect --raw {IMAGE}",
        "buildx rm worker-comfyui",
    ]
    assert "Pushed me/worker-comfyui:1.0-base: 3.5 GB to download" in result.stderr
    assert "Next: " in result.stderr


@needs_space
@pytest.mark.parametrize("failing", ["", "bake", "login"])
def test_the_password_is_nowhere_afterwards(
    run: Run, calls: Path, tmp_path: Path, failing: str
) -> None:
    result = run(FAIL=failing, HUGGINGFACE_ACCESS_TOKEN=TOKEN)
    assert (result.returncode != 0) == bool(failing)
    assert (tmp_path / "calls.stdin").read_text() == f"{PASSWORD}\n"
    for secret in (PASSWORD, TOKEN):
        assert secret not in calls.read_text() + result.stdout + result.stderr
    configs = set((tmp_path / "calls.config").read_text().split())
    assert configs
    assert not any(Path(config).exists() for config in configs)


@needs_space
def test_a_gated_model_gets_its_token_through_the_environment(run: Run, tmp_path: Path) -> None:
    if free_gigabytes() < 60:
        pytest.skip("too little disk for the check to pass")
    result = run(MODEL_TYPE="sd3", HUGGINGFACE_ACCESS_TOKEN=TOKEN)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "calls.token").read_text() == f"{TOKEN}\n"


@needs_space
def test_another_registry_can_be_used(run: Run, calls: Path) -> None:
    result = run(REGISTRY="ghcr.io", IMAGE_TAG="ghcr.io/me/worker-comfyui:1.0-base")
    assert result.returncode == 0, result.stderr
    assert "login --username me --password-stdin ghcr.io" in calls.read_text().splitlines()


@needs_space
def test_the_builder_stays_when_asked_and_after_a_failure(run: Run, calls: Path) -> None:
    assert run(KEEP_CACHE="true").returncode == 0
    assert run(FAIL="bake").returncode == 1
    assert "buildx rm" not in calls.read_text()


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        (
            {"DOCKERHUB_USERNAME": "", "DOCKERHUB_TOKEN": "", "IMAGE_TAG": ""},
            "error: set DOCKERHUB_USERNAME DOCKERHUB_TOKEN IMAGE_TAG (the head of this script",
        ),
        ({"IMAGE_TAG": "Me/x"}, "error: IMAGE_TAG must be like me/worker-comfyui:1.0-sdxl, not"),
        ({"MODEL_TYPE": "sd4"}, "error: there is no MODEL_TYPE sd4: src/models/variants.json"),
        ({"MODEL_TYPE": "sd3"}, "error: sd3 has gated models: set HUGGINGFACE_ACCESS_TOKEN"),
        ({"FAIL": "info"}, "error: the Docker daemon does not answer"),
        ({"FAIL": "buildx"}, "error: docker buildx is missing"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_built(
    run: Run, calls: Path, environ: dict[str, str], sentence: str
) -> None:
    result = run(**environ)
    assert result.returncode == 1
    assert sentence in result.stderr
    assert not calls.exists() or "login" not in calls.read_text()


def test_too_little_disk_is_said_before_anything_is_built(
    run: Run, calls: Path, tmp_path: Path
) -> None:
    df = tmp_path / "bin" / "df"
    df.write_text("#!/bin/sh\nprintf 'head\\nx 1 1 20000000 1 /\\n'\n")
    df.chmod(0o755)
    result = run()
    assert result.returncode == 1
    assert "error: base needs about 30 GB in /, and 20 GB are free" in result.stderr
    assert "login" not in calls.read_text()
