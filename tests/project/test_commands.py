"""Every command that the documents show is run by something, or it is said why it cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.shell import BASH

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
SET_BEFORE = re.compile(r"^(?:[A-Z_]+=\S+\s+(?:\\\n)?)+")

BUILD = "tests/images/test_build_on_pod.py"
COMMANDS = "tests/end_to_end/test_commands.py"
IMAGES = "tests/images/docker_images.py"
LOCAL_API = "tests/end_to_end/test_process_local_api.py"
PROGRAMS = "tests/end_to_end/test_documented_programs.py"
REQUESTS = "tests/end_to_end/test_documented_requests.py"
TESTED = ".github/workflows/test.yml"

# How a command begins: the file that runs it, and how it stands there.
RUN_BY = {
    "./scripts/check": (TESTED, "./scripts/check"),
    "./scripts/download-models": (PROGRAMS, "--workflow"),
    "./scripts/run": (COMMANDS, 'command("run"'),
    "./scripts/serve": ("tests/local_runpod/test_serve.py", '"./scripts/serve"'),
    "./scripts/submit": (COMMANDS, 'command("submit"'),
    "./scripts/test": (TESTED, "./scripts/test"),
    "./scripts/test-base-image": ("scripts/try-update", "./scripts/test-base-image"),
    "./scripts/test-images": (TESTED, "./scripts/test-images"),
    ".venv/bin/python handler.py": (LOCAL_API, "--rp_serve_api"),
    "aws s3 cp": (PROGRAMS, '"aws s3"'),
    "curl -X POST": (REQUESTS, '"curl "'),
    "curl -fL -o": (PROGRAMS, '"curl"'),
    "curl -fsSL": (BUILD, "piped=True"),
    'curl -s "http://127.0.0.1:8000/status/$job"': (REQUESTS, "WATCHED in"),
    "docker build --": (IMAGES, 'docker("build"'),
    "docker buildx bake": (IMAGES, '"buildx", "bake"'),
    "docker buildx bake --print": ("tests/images/test_bake_file.py", '"--print"'),
    "docker compose --profile cpu": (IMAGES, '"--profile", "cpu"'),
    "docker run --rm": (IMAGES, 'docker("run", "--rm"'),
    "export": (BUILD, "DOCKERHUB_USERNAME"),
    "git clone": (BUILD, "worker-comfyui-build"),
    "git grep": (BUILD, "## In a fork"),
    "grep -o": (PROGRAMS, '"jq"'),
    "job=$(curl ": (REQUESTS, "WATCHED in"),
    "mkdir -p /workspace": (PROGRAMS, '"curl"'),
    "python3 -c": (PROGRAMS, '"Receiver"'),
}

CANNOT_BE = {
    "./scripts/benchmark": "takes minutes of an idle machine",
    "docker buildx imagetools": "looks at an image of a registry",
    "docker compose --profile gpu": "needs a GPU",
    "docker login": "needs an account",
    "docker push": "needs an account",
    "gh attestation": "needs an image that GitHub has signed",
    "git tag": "makes a release",
    "pip install pre-commit": "changes what runs at each commit here",
    "read -rs": "asks the one who types",
}


def commands(text: str) -> Iterator[str]:
    """The commands of a document, each with all its lines, without what is set before it."""
    for block in BASH.findall(text):
        command = ""
        for line in block.splitlines():
            command += line.strip() + "\n"
            if line.endswith(("\\", "|")) or command.count("'") % 2:
                continue
            if shown := SET_BEFORE.sub("", command.strip()):
                yield shown
            command = ""


SHOWN = [
    pytest.param(command, id=f"{document.name}-{number}")
    for document in DOCUMENTS
    for number, command in enumerate(commands(document.read_text()), 1)
]


@pytest.mark.parametrize("command", SHOWN)
def test_a_command_is_run_by_something_or_cannot_be(command: str) -> None:
    known = [start for start in {**RUN_BY, **CANNOT_BE} if command.startswith(start)]
    assert known, f"nobody runs {command!r}: add a test, and a line above"
    if runner := RUN_BY.get(max(known, key=len)):
        path, word = runner
        assert word in (ROOT / path).read_text()


def test_no_line_is_for_a_command_that_is_not_shown() -> None:
    assert len(SHOWN) > 60
    for start in {**RUN_BY, **CANNOT_BE}:
        assert any(str(shown.values[0]).startswith(start) for shown in SHOWN), start
