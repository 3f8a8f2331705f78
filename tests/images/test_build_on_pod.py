"""scripts/build-on-pod.sh, with a docker that writes down how it is called."""

from __future__ import annotations

import os
import re
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
  "buildx bake "*)
    printenv HUGGINGFACE_ACCESS_TOKEN >"$CALLS.token"
    printf '%s\\n' "${CUDA_VERSION:-unset}" >"$CALLS.cuda"
    printf '%s\\n' "$SAYS"
    [[ $FAIL != bake ]] ;;
  *@sha256:abc) echo '{"layers":[{"size": 1500000000},{"size":2000000000}]}' ;;
  "buildx imagetools "*)
    echo '{"manifests":[{"digest":"sha256:abc","platform":{"os":"linux"}},' \\
      '{"digest":"sha256:def","platform":{"os":"unknown"}}]}' ;;
esac
"""

DF = "#!/bin/sh\nprintf 'head\\nx 1 1 {kilobytes} 1 /\\n'\n"

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
    (programs / "df").write_text(DF.format(kilobytes=900_000_000))
    (programs / "df").chmod(0o755)

    def run(*, piped: bool = False, **environ: str) -> subprocess.CompletedProcess[str]:
        usual = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "TMPDIR": str(tmp_path),
            "CALLS": str(calls),
            "FAIL": "",
            "SAYS": "",
            "DOCKERHUB_USERNAME": "me",
            "DOCKERHUB_TOKEN": PASSWORD,
            "IMAGE_TAG": IMAGE,
            "MODEL_TYPE": "base",
        }
        script = ROOT / "scripts" / "build-on-pod.sh"
        return subprocess.run(
            ["bash"] if piped else [str(script)],
            input=script.read_text() if piped else None,
            cwd=tmp_path,
            env=usual | environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def test_it_logs_in_builds_pushes_and_says_the_size(run: Run, calls: Path) -> None:
    result = run()
    assert result.returncode == 0, result.stderr
    assert calls.read_text().splitlines() == [
        "buildx version",
        "info",
        "info",
        "info --format {{.DockerRootDir}}",
        "login --username me --password-stdin",
        "buildx inspect worker-comfyui",
        "buildx create --name worker-comfyui --driver docker-container",
        (
            "buildx bake --builder worker-comfyui --progress plain --set base.output=type=registry "
            f"--set base.tags={IMAGE} --provenance=mode=max --sbom=true base"
        ),
        f"buildx imagetools inspect --raw {IMAGE}",
        "buildx imagetools inspect --raw me/worker-comfyui@sha256:abc",
        "buildx rm worker-comfyui",
    ]
    assert "Pushed me/worker-comfyui:1.0-base: 3.5 GB to download" in result.stderr
    assert "Next: " in result.stderr


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


def test_a_gated_model_gets_its_token_through_the_environment(run: Run, tmp_path: Path) -> None:
    result = run(MODEL_TYPE="sd3", HUGGINGFACE_ACCESS_TOKEN=TOKEN)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "calls.token").read_text() == f"{TOKEN}\n"


def test_another_registry_can_be_used(run: Run, calls: Path) -> None:
    result = run(REGISTRY="ghcr.io", IMAGE_TAG="ghcr.io/me/worker-comfyui:1.0-base")
    assert result.returncode == 0, result.stderr
    assert "login --username me --password-stdin ghcr.io" in calls.read_text().splitlines()


def test_the_builder_stays_when_asked_and_after_a_failure(run: Run, calls: Path) -> None:
    assert run(KEEP_CACHE="true").returncode == 0
    assert run(FAIL="bake").returncode == 1
    assert "buildx rm" not in calls.read_text()


@pytest.mark.parametrize("code", [0, 100])
def test_what_a_fresh_server_lacks_is_installed_or_named(
    run: Run, tmp_path: Path, code: int
) -> None:
    apt = tmp_path / "bin" / "apt-get"
    apt.write_text(f'#!/bin/sh\necho "$@" >>"{tmp_path}/apt"\nexit {code}\n')
    apt.chmod(0o755)
    result = run(FAIL="buildx")
    if os.geteuid():
        assert "error: install docker-buildx first (as root on Debian and Ubuntu" in result.stderr
        return
    installed = ["update -q", "install -y -q docker-buildx"]
    assert (tmp_path / "apt").read_text().splitlines() == installed[: 1 if code else 2]
    assert (result.returncode != 0) == bool(code)
    failed = "error: apt-get could not install docker-buildx, as said above"
    assert (failed in result.stderr) == bool(code)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        (
            {"DOCKERHUB_USERNAME": "", "DOCKERHUB_TOKEN": "", "IMAGE_TAG": ""},
            "error: set DOCKERHUB_USERNAME DOCKERHUB_TOKEN IMAGE_TAG (the head of this script",
        ),
        ({"IMAGE_TAG": "Me/x"}, "error: IMAGE_TAG must be like me/worker-comfyui:1.0-sdxl, not"),
        ({"MODEL_TYPE": "sd4"}, "error: there is no MODEL_TYPE sd4; there are: base, sdxl, "),
        ({"MODEL_TYPE": "base-cuda99"}, "error: there is no MODEL_TYPE base-cuda99; there are: "),
        ({"MODEL_TYPE": "sd3"}, "error: sd3 has gated models: set HUGGINGFACE_ACCESS_TOKEN"),
        ({"FAIL": "info"}, "error: the Docker daemon does not answer"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_built(
    run: Run, calls: Path, environ: dict[str, str], sentence: str
) -> None:
    result = run(**environ)
    assert result.returncode == 1
    assert sentence in result.stderr
    assert not calls.exists() or "login" not in calls.read_text()


def test_weights_are_pushed_uncompressed_on_compressed_layers(run: Run, calls: Path) -> None:
    result = run(MODEL_TYPE="sdxl", ATTESTATIONS="false")
    assert result.returncode == 0, result.stderr
    bakes = [line for line in calls.read_text().splitlines() if line.startswith("buildx bake")]
    common = "buildx bake --builder worker-comfyui --progress plain --set "
    assert bakes == [
        f"{common}base.output=type=image,push=false base",
        (
            f"{common}sdxl.output=type=registry,compression=gzip,compression-level=0 "
            f"--set sdxl.tags={IMAGE} --provenance=false --sbom=false sdxl"
        ),
    ]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("failed to push: unexpected status: 502 Bad Gateway", "Run this again: it goes on"),
        ("read: connection reset by peer", "Run this again: it goes on"),
        ("push access denied, repository does not exist", "the registry refused the push"),
        ("write: no space left on device", "the disk is full"),
        ("error: x/y is gated: accept the terms", "run this again once that is corrected"),
    ],
)
def test_only_what_may_pass_is_to_be_run_again(run: Run, said: str, sentence: str) -> None:
    result = run(FAIL="bake", SAYS=said)
    assert result.returncode == 1
    assert said in result.stderr
    assert sentence in result.stderr.splitlines()[-1]


# As buildx 0.13 and 0.29 end: the command of the step that failed, its last lines, its place.
STEP = "python -m pip install x && timeout 300 python main.py"
FAILED = f"""#6 [2/2] RUN {STEP}
#6 0.263 WARNING: Retrying after connection broken by ReadTimeoutError: Read timed out.
#6 0.503 {{reason}}
#6 ERROR: process "/bin/bash -c {STEP}" did not complete successfully: exit code: 1
------
 > [2/2] RUN {STEP}:
0.502 one
0.503 {{reason}}
------
Dockerfile:3
--------------------
   3 | >>> RUN python -m pip install x \\
   4 | >>>  && timeout 300 python main.py
--------------------
ERROR: failed to solve: process "/bin/bash -c {STEP}" did not complete successfully: exit code: 1"""


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("error: x/y is gated: accept the terms", "run this again once that is corrected"),
        ("cp: cannot open 'x': Permission denied", "run this again once that is corrected"),
        ("error: m arrived damaged: SHA-256 0 instead of 1", "run this again once that is correct"),
        ("ERROR: No matching distribution found for x", "run this again once that is corrected"),
        ("error: https://a/b answered 503 (Service Unavailable)", "Run this again: it goes on"),
        ("ERROR: HTTPSConnectionPool: Read timed out.", "Run this again: it goes on"),
        ("cp: error writing 'x': no space left on device", "the disk is full"),
    ],
)
def test_a_step_s_reason_counts_and_neither_its_command_nor_what_was_tried_again(
    run: Run, reason: str, sentence: str
) -> None:
    result = run(FAIL="bake", SAYS=FAILED.format(reason=reason))
    assert result.returncode == 1
    assert sentence in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(("value", "used"), [("12.6.3", "unset"), ("12.8", "12.8")])
def test_the_version_that_nvidia_s_images_set_is_not_taken_for_the_build_s(
    run: Run, tmp_path: Path, value: str, used: str
) -> None:
    assert run(CUDA_VERSION=value).returncode == 0
    assert (tmp_path / "calls.cuda").read_text() == f"{used}\n"


def test_piped_into_bash_it_clones_and_builds(run: Run, tmp_path: Path) -> None:
    upstream = tmp_path / "upstream"
    (upstream / "src" / "models").mkdir(parents=True)
    for name in ("docker-bake.hcl", "src/models/variants.json"):
        (upstream / name).write_bytes((ROOT / name).read_bytes())
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "1"]):
        subprocess.run(["git", *identity, *arguments], cwd=upstream, check=True)
    result = run(piped=True, REPO_URL=f"file://{upstream}")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "worker-comfyui-build" / "docker-bake.hcl").exists()
    assert "Pushed me/worker-comfyui:1.0-base: 3.5 GB to download" in result.stderr


def test_piped_into_bash_it_names_an_address_that_cannot_be_cloned(
    run: Run, tmp_path: Path
) -> None:
    result = run(piped=True, REPO_URL=f"file://{tmp_path}/nothing")
    assert result.returncode == 1
    assert f"error: cannot clone REPO_URL file://{tmp_path}/nothing" in result.stderr


ADDRESS = re.compile(r"(?:github|githubusercontent)\.com/([\w.-]+/[\w-]*worker-comfyui[\w-]*)")


def addresses(folder: Path) -> set[str]:
    """Which repositories of a worker-comfyui are named, but for the one it takes the place of."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    names = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    texts = ((folder / name).read_text(errors="replace") for name in names.split())
    found = {address for text in texts for address in ADDRESS.findall(text)}
    return found - {"runpod-workers/worker-comfyui"}


def cloned(folder: Path) -> str:
    """The address that the script clones."""
    script = (folder / "scripts" / "build-on-pod.sh").read_text()
    [url] = re.findall(r"^REPO_URL=\$\{REPO_URL:-(\S+)\}$", script, re.MULTILINE)
    return str(url)


def test_every_file_names_the_address_that_the_script_clones() -> None:
    assert {f"https://github.com/{address}" for address in addresses(ROOT)} == {cloned(ROOT)}


def test_one_command_makes_every_address_that_of_a_fork(tmp_path: Path) -> None:
    command = ["git", "ls-files", "*.md", ".github", "scripts"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for arguments in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    section = (ROOT / "CONTRIBUTING.md").read_text().split("## In a fork")[1]
    [change] = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    fork = "you/my-worker-comfyui"
    change = change.replace("OWNER/NAME", fork)
    subprocess.run(["bash", "-euc", change], cwd=tmp_path, check=True)
    assert addresses(tmp_path) == {fork}
    assert cloned(tmp_path) == f"https://github.com/{fork}"


def test_a_daemon_whose_disk_cannot_be_seen_is_used_all_the_same(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bin" / "df").write_text("#!/bin/sh\nexit 1\n")
    result = run()
    assert result.returncode == 0, result.stderr
    assert "Disk: about 15 GB needed; the Docker daemon's disk cannot be seen" in result.stderr


def test_too_little_disk_is_said_before_anything_is_built(
    run: Run, calls: Path, tmp_path: Path
) -> None:
    (tmp_path / "bin" / "df").write_text(DF.format(kilobytes=10_000_000))
    result = run()
    assert result.returncode == 1
    assert "error: base needs about 15 GB in /, and 10 GB are free" in result.stderr
    assert "login" not in calls.read_text()
